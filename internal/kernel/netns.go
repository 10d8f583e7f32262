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
	"time"
)

const (
	// netnsCheckedFor is how long a name holds without another look: a namespace that
	// is made takes the lowest number that is free, often that of one that has just
	// gone (proc_alloc_inum in
	// https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/fs/proc/generic.c).
	netnsCheckedFor = 100 * time.Millisecond
	// netnsGoneFor is how long a namespace that has gone keeps its name, unless another
	// one is found to have the number: its packets may still come.
	netnsGoneFor = time.Second
	// netnsUnknownFor is how long a number of which nothing is known is not looked for
	// again.
	netnsUnknownFor = 10 * time.Second
	// netnsLatest is how much older than a name a packet may be that is not the name's:
	// an older one tells that the clock was set back.
	netnsLatest = 10 * time.Minute
)

// NetNSNames names network namespaces by their inode numbers, as `ip netns`
// does, and those without such a name (containers') by a process in them. Methods
// may be called concurrently.
type NetNSNames struct {
	dir  string // where `ip netns` binds namespaces
	proc string // laid out as /proc
	now  func() time.Time

	mu    sync.Mutex
	names map[uint32]netnsName
}

// netnsName is what a number is called.
type netnsName struct {
	name string
	path string // where the namespace was found; "": nothing is known of it
	// checked is when it was seen there, or looked for in vain.
	checked time.Time
	// bound is when it was bound there, zero where that is not known.
	bound time.Time
}

// at is the name for a packet of that time. One from before the name's is of another
// namespace, which had the number then.
func (k *netnsName) at(packet time.Time) string {
	if earlier := k.bound.Sub(packet); !k.bound.IsZero() && earlier > 0 && earlier < netnsLatest {
		return ""
	}
	return k.name
}

// NewNetNSNames names the namespaces that are bound in /run/netns or that a
// process of /proc is in, and this process's own the empty string.
func NewNetNSNames() *NetNSNames {
	return &NetNSNames{dir: "/run/netns", proc: "/proc", now: time.Now, names: make(map[uint32]netnsName)}
}

// Name returns the name of the namespace that had an inode number when a packet was in
// it, at a Unix time: the one of `ip netns`, else command and number of the oldest
// process in it ("nginx[4711]"), empty for this process's own and for those of which
// nothing is known. A name holds as long as the namespace is where it was found.
func (n *NetNSNames) Name(inode uint32, unixNs uint64) string {
	known := n.find(inode)
	return known.at(time.Unix(0, int64(unixNs)))
}

// find looks a number up, as often as names change.
func (n *NetNSNames) find(inode uint32) netnsName {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	known, ok := n.names[inode]
	holds := netnsCheckedFor
	if known.path == "" {
		holds = netnsUnknownFor
	}
	if ok && now.Sub(known.checked) < holds {
		return known
	}
	if at, _, err := inodeOf(known.path); ok && err == nil && at == inode {
		known.checked = now
		n.names[inode] = known
		return known
	}
	n.read(now)
	if _, ok := n.names[inode]; !ok {
		n.names[inode] = netnsName{checked: now} // or each of its packets would list the directories
	}
	return n.names[inode]
}

// read finds the namespaces that there are by now, and forgets those that have gone
// some time ago.
func (n *NetNSNames) read(now time.Time) {
	found := make(map[uint32]netnsName)
	n.add(found, filepath.Join(n.proc, "self", "ns", "net"), "", now)
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		entries = nil // no namespace was ever named
	}
	for _, e := range entries {
		n.add(found, filepath.Join(n.dir, e.Name()), e.Name(), now)
	}
	n.readOwners(found, now)
	for inode, known := range n.names {
		age := now.Sub(known.checked)
		if _, there := found[inode]; !there && (known.path != "" && age < netnsGoneFor || known.path == "" && age < netnsUnknownFor) {
			found[inode] = known
		}
	}
	n.names = found
}

// readOwners adds the namespaces of processes. A process that ends meanwhile, or
// that another user has, owns none.
func (n *NetNSNames) readOwners(found map[uint32]netnsName, now time.Time) {
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
		inode, _, err := inodeOf(n.netnsOf(pid))
		if err != nil {
			continue
		}
		if old, ok := owners[inode]; !ok || pid < old {
			owners[inode] = pid
		}
	}
	for _, pid := range owners {
		comm, err := os.ReadFile(filepath.Join(n.proc, strconv.Itoa(pid), "comm"))
		if err == nil {
			n.add(found, n.netnsOf(pid), fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), pid), now)
		}
	}
}

// netnsOf is where the namespace of a process is found.
func (n *NetNSNames) netnsOf(pid int) string {
	return filepath.Join(n.proc, strconv.Itoa(pid), "ns", "net")
}

// add keeps the first name of the namespace at path, if there is one.
func (n *NetNSNames) add(found map[uint32]netnsName, path, name string, now time.Time) {
	inode, made, err := inodeOf(path)
	if err != nil {
		return
	}
	if _, ok := found[inode]; !ok {
		if filepath.Dir(path) != n.dir {
			made = time.Time{}
		}
		found[inode] = netnsName{name: name, path: path, checked: now, bound: made}
	}
}

// inodeOf gives the number of a namespace and when its inode was made: as it was bound,
// for one that is, which keeps it (nsfs_init_inode in
// https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/fs/nsfs.c);
// below /proc, as it is looked at.
func inodeOf(path string) (inode uint32, made time.Time, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, time.Time{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, time.Time{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrInvalid}
	}
	return uint32(st.Ino), time.Unix(st.Ctim.Unix()), nil
}
