package filter

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseNetNS parses what names a network namespace and returns its inode
// number, which the kernel has as net->ns.inum:
//
//	inode:4026531840   the number itself
//	/proc/1/ns/net     a path (anything with a slash)
//	blue               a name given by "ip netns add", below /run/netns
//
// The namespace must exist now, except for inode:N, which is taken as it is.
// Inode numbers are used again after a namespace is gone.
func ParseNetNS(s string) (uint32, error) {
	s = strings.TrimSpace(s)
	switch number, isInode := strings.CutPrefix(s, "inode:"); {
	case isInode:
		inode, err := parseUint32(number)
		if err != nil {
			return 0, fmt.Errorf("parse network namespace %q: inode %w", s, err)
		}
		if inode == 0 {
			return 0, fmt.Errorf("parse network namespace %q: no namespace has inode 0; read it with \"ls -Li /proc/self/ns/net\"", s)
		}
		return inode, nil
	case s == "" || s == "." || s == "..":
		return 0, fmt.Errorf("parse network namespace %q: give a path, a name or inode:N", s)
	case strings.Contains(s, "/"):
		return netnsInode(s, s)
	}
	return namedNetNS(s, "/run/netns", "/var/run/netns")
}

// namedNetNS looks for a name in the directories where iproute2 keeps them.
func namedNetNS(name string, dirs ...string) (uint32, error) {
	for _, dir := range dirs {
		inode, err := netnsInode(name, filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return inode, err
		}
	}
	return 0, fmt.Errorf("parse network namespace %q: no such name in %s; list the names with \"ip netns\", or give a path or inode:N: %w",
		name, strings.Join(dirs, " or "), fs.ErrNotExist)
}

// netnsInode returns the inode number of the network namespace at path. name
// is what the user wrote.
func netnsInode(name, path string) (uint32, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("parse network namespace %q: open %s: %w", name, path, err)
	}
	defer unix.Close(fd)

	var fsys unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsys); err != nil {
		return 0, fmt.Errorf("parse network namespace %q: statfs %s: %w", name, path, err)
	}
	if int64(fsys.Type) != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("parse network namespace %q: %s is not a namespace file; give one like /proc/PID/ns/net", name, path)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return 0, fmt.Errorf("parse network namespace %q: ask %s for its type: %w", name, path, err)
	}
	if kind != unix.CLONE_NEWNET {
		return 0, fmt.Errorf("parse network namespace %q: %s is a namespace of another type; give one like /proc/PID/ns/net", name, path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("parse network namespace %q: stat %s: %w", name, path, err)
	}
	return uint32(st.Ino), nil
}
