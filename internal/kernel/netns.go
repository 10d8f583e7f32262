package kernel

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// NetNSNames names network namespaces by their inode numbers, as `ip netns`
// does, and those without such a name (containers') by a process in them. Methods
// may be called concurrently.
type NetNSNames struct {
	dir  string // where `ip netns` binds namespaces
	proc string // laid out as /proc

	mu    sync.Mutex
	names map[uint32]string
}

// NewNetNSNames names the namespaces that are bound in /run/netns or that a
// process of /proc is in, and this process's own the empty string.
func NewNetNSNames() *NetNSNames {
	return &NetNSNames{dir: "/run/netns", proc: "/proc", names: make(map[uint32]string)}
}

// Name returns the name of a namespace: the one of `ip netns`, else command and
// number of the oldest process in it ("nginx[4711]"), empty for this process's own
// and for those of which nothing is known. What it has answered once it answers
// for good; an inode that it has not been asked for makes it look again.
func (n *NetNSNames) Name(inode uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.names[inode]; ok {
		return name
	}
	n.read()
	if _, ok := n.names[inode]; !ok {
		n.names[inode] = "" // or each of its packets would list the directories
	}
	return n.names[inode]
}

// read adds the namespaces that there are by now.
func (n *NetNSNames) read() {
	if inode, err := inodeOf(n.proc + "/self/ns/net"); err == nil {
		n.add(inode, "")
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		entries = nil // no namespace was ever named
	}
	for _, e := range entries {
		if inode, err := inodeOf(filepath.Join(n.dir, e.Name())); err == nil {
			n.add(inode, e.Name())
		}
	}
	n.readOwners()
}

// readOwners adds the namespaces of processes. A process that ends meanwhile, or
// that another user has, owns none.
func (n *NetNSNames) readOwners() {
	entries, err := os.ReadDir(n.proc)
	if err != nil {
		return
	}
	owners := make(map[uint32]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		inode, err := inodeOf(filepath.Join(n.proc, e.Name()) + "/ns/net")
		if err != nil {
			continue
		}
		if old, ok := owners[inode]; !ok || pid < old {
			owners[inode] = pid
		}
	}
	for inode, pid := range owners {
		comm, err := os.ReadFile(filepath.Join(n.proc, strconv.Itoa(pid), "comm"))
		if err == nil {
			n.add(inode, fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), pid))
		}
	}
}

// add keeps the first name of a namespace.
func (n *NetNSNames) add(inode uint32, name string) {
	if _, ok := n.names[inode]; !ok {
		n.names[inode] = name
	}
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
