package kernel

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// netnsRefresh is the least time between two readings of the directory: an
// unknown namespace must not make each packet list a directory.
const netnsRefresh = time.Second

// NetNSNames names network namespaces by their inode numbers, as `ip netns`
// does. Methods may be called concurrently.
type NetNSNames struct {
	dir  string
	self string
	now  func() time.Time

	mu    sync.Mutex
	names map[uint32]string
	next  time.Time // when the directory may be read again
}

// NewNetNSNames names the namespaces that are bound in /run/netns, and this
// process's own the empty string.
func NewNetNSNames() *NetNSNames {
	return &NetNSNames{dir: "/run/netns", self: "/proc/self/ns/net", now: time.Now}
}

// Name returns the name of a namespace, empty for this process's own and for
// those without a name. An unknown number makes it look again, at most once a
// second.
func (n *NetNSNames) Name(inode uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.names[inode]; ok {
		return name
	}
	now := n.now()
	if now.Before(n.next) {
		return ""
	}
	n.next = now.Add(netnsRefresh)
	n.names = n.read()
	return n.names[inode]
}

func (n *NetNSNames) read() map[uint32]string {
	names := make(map[uint32]string)
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		entries = nil // no namespace was ever named
	}
	for _, e := range entries {
		if inode, err := inodeOf(filepath.Join(n.dir, e.Name())); err == nil {
			names[inode] = e.Name()
		}
	}
	if inode, err := inodeOf(n.self); err == nil {
		names[inode] = ""
	}
	return names
}

func inodeOf(path string) (uint32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrInvalid}
	}
	return uint32(st.Ino), nil
}
