package applications

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ownNote is a function of the tests' own program.
const ownNote = "github.com/otel-kprobe/otel-kprobe/internal/applications.note"

//go:noinline
func note(t *testing.T) { t.Helper() }

// ownProgram is a copy of the tests' own program, which has the function.
func ownProgram(t *testing.T) string {
	t.Helper()
	note(t)
	path := filepath.Join(t.TempDir(), "app")
	copyFile(t, "/proc/self/exe", path)
	return path
}

// processTree is a directory like /proc.
type processTree struct {
	t   *testing.T
	dir string
}

func newProcessTree(t *testing.T) processTree {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sys"), 0o700); err != nil {
		t.Fatal(err)
	}
	return processTree{t, dir}
}

// run makes a process run a program, "" none, as threads of the kernel do.
func (p processTree) run(pid int, program string) {
	p.t.Helper()
	dir := filepath.Join(p.dir, strconv.Itoa(pid))
	exe := filepath.Join(dir, "exe")
	if err := os.Remove(exe); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	err := os.MkdirAll(dir, 0o700)
	if program != "" {
		err = errors.Join(err, os.Symlink(program, exe))
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p processTree) end(pid int) {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.dir, strconv.Itoa(pid))); err != nil {
		p.t.Fatal(err)
	}
}

// scan expects a scan to find these programs, and those gone.
func scan(t *testing.T, f *Finder, want Changes) {
	t.Helper()
	got, err := f.Scan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got.Found {
		if offset, err := findFunction(p.File, f.function); err != nil || offset != p.Offset {
			t.Errorf("the open file has the function at %#x, %v, want %#x", offset, err, p.Offset)
		}
		if err := p.File.Close(); err != nil {
			t.Error(err)
		}
		got.Found[i].File, got.Found[i].Offset = nil, 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scan %d (-want +got):\n%s", f.scans, diff)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestFinder follows programs through their lives.
func TestFinder(t *testing.T) {
	dir := t.TempDir()
	app := ownProgram(t)
	linked, second := filepath.Join(dir, "linked"), filepath.Join(dir, "second")
	if err := os.Link(app, linked); err != nil {
		t.Fatal(err)
	}
	copyFile(t, app, second)
	processes := newProcessTree(t)
	processes.run(1, "/bin/true")
	processes.run(2, "")
	processes.run(7, app)
	f := newFinder(processes.dir, ownNote)

	scan(t, f, Changes{Found: []Program{{ID: 1, Name: "app", PID: 7}}})
	processes.run(8, app)
	processes.run(9, linked) // the same file
	scan(t, f, Changes{})
	processes.run(1, second) // as a shell does
	scan(t, f, Changes{Found: []Program{{ID: 2, Name: "second", PID: 1}}})

	processes.end(7)
	processes.end(9)
	processes.run(1, "/bin/true")
	for range patience {
		scan(t, f, Changes{})
	}
	scan(t, f, Changes{Gone: []ID{2}})
	processes.run(1, second) // started again
	scan(t, f, Changes{Found: []Program{{ID: 3, Name: "second", PID: 1}}})
	processes.end(8)
	for range patience {
		scan(t, f, Changes{})
	}
	scan(t, f, Changes{Gone: []ID{1}})
	if diff := cmp.Diff(Stats{}, f.Stats()); diff != "" {
		t.Error(diff)
	}
}

// TestFinderReplaced expects a file of the same name to be looked at anew.
func TestFinderReplaced(t *testing.T) {
	app := ownProgram(t)
	program := filepath.Join(t.TempDir(), "program")
	copyFile(t, "/bin/true", program)
	processes := newProcessTree(t)
	processes.run(5, program)
	f := newFinder(processes.dir, ownNote)
	scan(t, f, Changes{})
	copyFile(t, app, program)
	scan(t, f, Changes{Found: []Program{{ID: 1, Name: "program", PID: 5}}})
}

// TestFinderRunning finds a real process, whose file was deleted.
func TestFinderRunning(t *testing.T) {
	app := buildProgram(t, "app", []string{"CGO_ENABLED=0"})
	want, pid := runProgram(t, app)
	if err := os.Remove(app); err != nil {
		t.Fatal(err)
	}
	f := NewFinder(toldNote)
	var found []Program
	for again := true; again; again = f.Behind() {
		changes, err := f.Scan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, changes.Found...)
	}
	if len(found) == 0 {
		t.Fatal("nothing was found")
	}
	for _, p := range found {
		// There may be one that another test runs.
		if p.PID == pid {
			if p.Offset != want || p.Name != "app" {
				t.Errorf("%q at %#x, want app at %#x", p.Name, p.Offset, want)
			}
		}
		if err := p.File.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFinderCounts expects what cannot be followed to be counted, once.
func TestFinderCounts(t *testing.T) {
	app := ownProgram(t)
	content, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cut, large, newer := filepath.Join(dir, "cut"), filepath.Join(dir, "large"), filepath.Join(dir, "newer")
	copyFile(t, app, large)
	parsed, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	magic := parsed.Section(".gopclntab").Offset
	if err := errors.Join(
		os.WriteFile(cut, content[:len(content)/2], 0o700),
		os.WriteFile(newer, slices.Concat(content[:magic], []byte{0xf0}, content[magic+1:]), 0o700),
		os.Truncate(large, maxFileBytes+1),
	); err != nil {
		t.Fatal(err)
	}
	processes := newProcessTree(t)
	processes.run(5, cut)
	processes.run(6, large)
	processes.run(7, app)
	f := newFinder(processes.dir, ownNote)
	for inode := range uint64(maxPrograms) {
		f.programs[realFile{device: 1 << 60, inode: inode}] = &program{} // of no file
	}
	processes.run(8, newer)
	changes, err := f.Scan(t.Context())
	if err != nil || len(changes.Found) != 0 || len(changes.Unread) != 1 {
		t.Fatalf("%+v, %v, want one program unread", changes, err)
	}
	want := "read the functions of newer of process 8: read the table of functions: it is of no known version"
	if got := changes.Unread[0].Error(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for range 3 {
		scan(t, f, Changes{})
	}
	if diff := cmp.Diff(Stats{LeftOut: 1}, f.Stats()); diff != "" {
		t.Error(diff)
	}
}

// TestFinderInTurns expects every process to be looked at, in spite of the bounds of a
// scan, and new ones at once.
func TestFinderInTurns(t *testing.T) {
	app := ownProgram(t)
	processes := newProcessTree(t)
	const count = 2*looksPerScan + 500
	for pid := range count {
		processes.run(pid+1, "/bin/true")
	}
	f := newFinder(processes.dir, ownNote)
	scans := 0
	for again := true; again; again = f.Behind() {
		scan(t, f, Changes{})
		scans++
	}
	if scans != 3 {
		t.Errorf("%d scans until all were looked at, want 3", scans)
	}
	for range 3 * youngLooks {
		scan(t, f, Changes{})
	}
	processes.run(count+1, app)
	scan(t, f, Changes{Found: []Program{{ID: 1, Name: "app", PID: count + 1}}})
	other := filepath.Join(t.TempDir(), "other")
	copyFile(t, app, other)
	processes.run(1, other)
	found := 0
	for range 6 {
		changes, err := f.Scan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range changes.Found {
			found++
			if err := p.File.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d programs that a known process runs now were found, want 1", found)
	}
}

// TestFinderEnds expects no look after the context has ended, and an error without proc.
func TestFinderEnds(t *testing.T) {
	processes := newProcessTree(t)
	processes.run(1, "/bin/true")
	f := newFinder(processes.dir, ownNote)
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := f.Scan(ended); err != nil || !f.Behind() {
		t.Errorf("%v, behind %v, want no error and one process to be left", err, f.Behind())
	}
	f.proc = filepath.Join(processes.dir, "none")
	if _, err := f.Scan(context.Background()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mount procfs") {
		t.Errorf("%v, want one that tells what to do", err)
	}
}

// TestProcessesNext expects old processes to have their turns although more new ones
// come than are looked at.
func TestProcessesNext(t *testing.T) {
	pids := func(from, to int) (list []int) {
		for pid := from; pid < to; pid++ {
			list = append(list, pid)
		}
		return list
	}
	var p processes
	looked := map[int]int{}
	const last = 100
	for scan := uint64(1); scan <= last; scan++ {
		// The first ten stay, the others have ended with the next scan.
		all := pids(0, 10)
		if scan > 2 {
			all = append(all, pids(100*int(scan), 100*int(scan)+20)...)
		}
		next := p.next(all, scan, 10)
		if len(next) != 10 {
			t.Fatalf("scan %d: %d processes, want 10", scan, len(next))
		}
		for _, pid := range next {
			looked[min(pid, 10)]++
			p.known[pid].looks++
			p.known[pid].waitsFrom = scan
		}
	}
	for pid := range 10 {
		if n := looked[pid]; n < last/2 {
			t.Errorf("process %d was looked at %d times in %d scans, want every second time", pid, n, last)
		}
	}
	if n := looked[10]; n < last*10/2-30 {
		t.Errorf("%d looks at new processes, want half of all", n)
	}
	if len(p.known) != 30 {
		t.Errorf("%d processes are remembered, want the 30 that there are", len(p.known))
	}
}

// BenchmarkScan is a scan of 1,000 processes in which nothing is new.
func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	for pid := range looksPerScan {
		process := filepath.Join(dir, strconv.Itoa(pid+1))
		if err := errors.Join(os.Mkdir(process, 0o700), os.Symlink("/bin/true", filepath.Join(process, "exe"))); err != nil {
			b.Fatal(err)
		}
	}
	f := newFinder(dir, ownNote)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Scan(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
