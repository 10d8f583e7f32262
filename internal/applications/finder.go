package applications

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What one scan, which is to be one a second, may cost, and what is kept. A machine
// with more processes or programs is scanned in turns.
const (
	looksPerScan = 500      // processes; each costs some µs (BenchmarkScan)
	bytesPerScan = 64 << 20 // read from files, of which the last may exceed it
	maxFileBytes = 1 << 30  // larger files are passed over
	// patience is how many scans a program is kept of which no process is seen: it may
	// be started again, but its uprobe also keeps a container's file system from going.
	// Among more than patience × looksPerScan processes it may be given up too early, and
	// is found again.
	patience    = 60
	maxPrograms = 1024
	maxFiles    = 16384 // of which it is remembered what they are
)

// Program is a running program that tells of its spans.
type Program struct {
	ID     ID
	Offset uint64 // in the file, of the function's entry
	// File is the open executable, whoever starts and ends meanwhile. Who gets the
	// program closes it.
	File *os.File
	Name string // the file's, without directories
	PID  int    // a process that runs it
}

// ID tells programs apart.
type ID uint64

// Changes are what a scan found.
type Changes struct {
	Found []Program
	Gone  []ID // found before, and no process has run it for a while
	// Unread are Go programs, each once, of which it is not known whether they tell.
	Unread []error
}

// Stats count what a Finder could not do.
type Stats struct {
	Refused uint64 // processes whose program may not be looked at
	LeftOut uint64 // programs beyond the number that is followed at a time; they stay left out
}

var errUnread = errors.New("read the functions of")

// Finder finds programs with a function of a given name among those that run. Only
// what proc shows is found, so processes of other PID namespaces only from outside.
// Methods must not be called concurrently.
type Finder struct {
	proc      string
	function  string
	processes processes
	scans     uint64
	read      uint64 // bytes, in this scan
	files     map[fileKey]*file
	programs  map[realFile]*program
	lastID    ID
	stats     Stats
}

// fileKey tells whether a file is still what it was. An executable that runs cannot be
// written to.
type fileKey struct {
	device, inode uint64
	size          uint64
	changed       unix.StatxTimestamp
}

// realFile tells whether two files are one: containers that share a layer have the same
// inode in different overlay file systems, and the kernel puts the uprobe on that one
// (d_real_inode in kernel/trace/trace_uprobe.c), where two would each see every call.
type realFile fileKey

// file is what is known of one that was looked at.
type file struct {
	program  *program // nil: it tells of no spans
	lastScan uint64   // in which a process was seen to run it
}

type program struct {
	id       ID
	lastScan uint64
}

// NewFinder makes a finder of programs with that function, by its full name:
// example.com/module/package.function.
func NewFinder(function string) *Finder { return newFinder("/proc", function) }

func newFinder(proc, function string) *Finder {
	return &Finder{
		proc: proc, function: function,
		files: make(map[fileKey]*file), programs: make(map[realFile]*program),
	}
}

// Stats gives the sums since the start.
func (f *Finder) Stats() Stats { return f.stats }

// Behind is true when there are processes that no scan has come to yet.
func (f *Finder) Behind() bool { return f.processes.waiting() > 0 }

// Scan looks at processes that are new, and again at others, since a process may run
// another program by now. With an error, or when ctx has ended, what was found is
// given too.
func (f *Finder) Scan(ctx context.Context) (Changes, error) {
	f.scans++
	f.read = 0
	pids, err := listProcesses(f.proc)
	if err != nil {
		return Changes{}, fmt.Errorf("list processes: %w; mount procfs on /proc", err)
	}
	var changes Changes
	for _, pid := range f.processes.next(pids, f.scans, looksPerScan) {
		if ctx.Err() != nil || f.read >= bytesPerScan {
			break
		}
		p := f.processes.known[pid]
		p.looks++
		p.waitsFrom = f.scans
		found, err := f.look(pid)
		switch {
		case err == nil && found != nil:
			changes.Found = append(changes.Found, *found)
		case errors.Is(err, errUnread):
			changes.Unread = append(changes.Unread, err)
		case errors.Is(err, fs.ErrPermission) && !p.refused:
			p.refused = true
			f.stats.Refused++
		}
	}
	changes.Gone = f.forget()
	return changes, nil
}

// look finds out what a process runs; nil: nothing new that tells of spans.
func (f *Finder) look(pid int) (*Program, error) {
	path := filepath.Join(f.proc, strconv.Itoa(pid), "exe")
	key, err := statFile(unix.AT_FDCWD, path, 0)
	if err != nil {
		return nil, err // ended, a thread of the kernel, or not allowed
	}
	if known := f.files[key]; known != nil {
		f.see(known)
		return nil, nil
	}
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// The process may run another program since.
	if key, err = statFile(int(opened.Fd()), "", unix.AT_EMPTY_PATH); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	if known := f.files[key]; known != nil {
		f.see(known)
		return nil, opened.Close()
	}
	found, err := f.examine(opened, key)
	name := ""
	if target, err := os.Readlink(path); err == nil {
		name = filepath.Base(strings.TrimSuffix(target, " (deleted)"))
	}
	if err != nil {
		err = fmt.Errorf("%w %s of process %d: %w", errUnread, name, pid, err)
	}
	if found == nil {
		return nil, errors.Join(err, opened.Close())
	}
	found.PID, found.Name = pid, name
	return found, nil
}

// examine looks into a file for the first time, and remembers what it is.
func (f *Finder) examine(opened *os.File, key fileKey) (*Program, error) {
	known := &file{}
	f.files[key] = known
	defer f.see(known)
	offset, err := f.find(opened, key.size)
	switch {
	case errors.Is(err, errNotOurs), errors.Is(err, errNoFunction):
		return nil, nil
	case err != nil:
		return nil, err
	}
	below := realOf(opened, key)
	if known.program = f.programs[below]; known.program != nil {
		return nil, nil
	}
	if len(f.programs) >= maxPrograms {
		f.stats.LeftOut++
		return nil, nil
	}
	f.lastID++
	known.program = &program{id: f.lastID}
	f.programs[below] = known.program
	return &Program{ID: f.lastID, File: opened, Offset: offset}, nil
}

// find looks for the function and counts what is read.
func (f *Finder) find(opened *os.File, size uint64) (uint64, error) {
	if size > maxFileBytes {
		return 0, errNotOurs
	}
	return findFunction(counted{opened, &f.read}, f.function)
}

// see notes that a process runs a file.
func (f *Finder) see(known *file) {
	known.lastScan = f.scans
	if known.program != nil {
		known.program.lastScan = f.scans
	}
}

// forget gives up the programs that no process runs any more, and files beyond what is
// to be kept, which would be looked into again.
func (f *Finder) forget() []ID {
	var gone []ID
	for below, p := range f.programs {
		if f.scans-p.lastScan > patience {
			delete(f.programs, below)
			gone = append(gone, p.id)
		}
	}
	full := len(f.files) > maxFiles
	for key, known := range f.files {
		idle := f.scans - known.lastScan
		if idle > patience && (full || known.program != nil) {
			delete(f.files, key)
		}
	}
	return gone
}

// statFile asks nobody over the network.
func statFile(dir int, path string, flags int) (fileKey, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, path, flags|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st)
	if err != nil {
		return fileKey{}, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return fileKey{
		device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino, size: st.Size, changed: st.Ctime,
	}, nil
}

// realOf leaves out the device of an overlay file system, which every mount of it has
// one of: inode and time are those of the file below.
func realOf(opened *os.File, key fileKey) realFile {
	var st unix.Statfs_t
	if unix.Fstatfs(int(opened.Fd()), &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		key.device = 0
	}
	return realFile(key)
}

// counted counts what is read of a file.
type counted struct {
	file io.ReaderAt
	sum  *uint64
}

// ReadAt implements io.ReaderAt.
func (c counted) ReadAt(b []byte, offset int64) (int, error) {
	n, err := c.file.ReadAt(b, offset)
	*c.sum += uint64(n)
	return n, err
}
