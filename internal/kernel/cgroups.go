package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// cgroupsKept bounds the paths that are remembered; large hosts have some
	// thousand cgroups at a time.
	cgroupsKept = 16384
	// cgroupWalkPause is the least time between two walks of all cgroups.
	cgroupWalkPause = time.Second
	// handleKernfs is the kernel's FILEID_KERNFS: a file handle
	// that holds the id of a kernfs node.
	handleKernfs = 0xfe
	// cgroupInitNS is the namespace that the kernel starts with
	// (PROC_CGROUP_INIT_INO of include/linux/proc_ns.h).
	cgroupInitNS = "cgroup:[4026531835]"
)

// Cgroups gives the paths of cgroups of version 2 by their ids, which are the
// inode numbers of their directories. Ids are never used again, so a cgroup
// that was removed keeps its path as long as it is remembered. Methods may be
// called concurrently.
type Cgroups struct {
	mount string // where cgroup2 is mounted, "" nowhere
	open  func(mount string, id uint64) (path string, err error)
	now   func() time.Time

	mu    sync.Mutex
	paths map[uint64]string
	next  time.Time // when all may be walked again
}

// NewCgroups finds where cgroup2 is mounted. Without a mount no cgroup has a
// path.
func NewCgroups() *Cgroups {
	m, _ := findCgroupMount("") // every answer is then empty
	return newCgroups(m.path)
}

func newCgroups(mount string) *Cgroups {
	return &Cgroups{mount: mount, open: openCgroup, now: time.Now, paths: make(map[uint64]string)}
}

// Path returns the path of a cgroup below the mount, / for the root, and empty
// for 0 and for one that was gone before anybody asked for it.
func (c *Cgroups) Path(id uint64) string {
	if id == 0 || c.mount == "" {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if path, ok := c.paths[id]; ok {
		return path
	}
	full, err := c.open(c.mount, id)
	switch {
	case err == nil:
		path, _ := below(c.mount, full)
		c.remember(id, path)
		return path
	case errors.Is(err, unix.ESTALE), errors.Is(err, fs.ErrNotExist):
		c.remember(id, "") // it will not come back
		return ""
	default:
		return c.walk(id)
	}
}

// walk is for where handles are refused: it looks at every cgroup, at most once
// a second.
func (c *Cgroups) walk(wanted uint64) string {
	now := c.now()
	if now.Before(c.next) {
		return ""
	}
	c.next = now.Add(cgroupWalkPause)
	var found string
	_ = filepath.WalkDir(c.mount, func(full string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // removed meanwhile, or a file of a cgroup
		}
		path, _ := below(c.mount, full)
		if id, err := cgroupID(full); err == nil {
			c.remember(id, path)
			if id == wanted {
				found = path
			}
		}
		return nil
	})
	return found
}

// remember keeps a path, in place of any other one when there are many.
func (c *Cgroups) remember(id uint64, path string) {
	if _, known := c.paths[id]; !known && len(c.paths) >= cgroupsKept {
		for other := range c.paths {
			delete(c.paths, other)
			break
		}
	}
	c.paths[id] = path
}

// openCgroup gives the full path of a cgroup. It takes CAP_DAC_READ_SEARCH.
func openCgroup(mount string, id uint64) (string, error) {
	dir, err := os.Open(mount)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	handle := unix.NewFileHandle(handleKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(dir.Fd()), handle, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("open_by_handle_at", err)
	}
	defer unix.Close(fd)
	full, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return strings.TrimSuffix(full, " (deleted)"), err
}

// below gives what of a path is below dir, / for dir itself.
func below(dir, path string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return "", false
	case rest == "":
		return "/", true
	}
	return rest, true
}

func cgroupID(dir string) (uint64, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, &fs.PathError{Op: "stat", Path: dir, Err: fs.ErrInvalid}
	}
	return st.Ino, nil
}
