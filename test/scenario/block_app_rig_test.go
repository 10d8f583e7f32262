//go:build vm

package scenario

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// The spans of the application are numbered; 0 is none.
const (
	spanDirect = 1 + iota
	spanNext
	spanFsync
	spanRead
	spanMapped
	spanLoop
	spanDirty
	spanFirst  // of a process whose write is merged …
	spanSecond // … with this one's
	spanKernel // of kernel threads, which are in none in truth
)

// ioTrace is the trace of these spans.
var ioTrace = [16]byte{0xb1, 0x0c, 15: 1}

// unpinSpans takes the map away that an earlier run has pinned.
func unpinSpans(t *testing.T) {
	t.Helper()
	if err := os.Remove(appContextsPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// put says which span a thread is in.
func (run *appRun) put(t *testing.T, process, thread int, number byte) {
	t.Helper()
	if err := run.contexts.put(process, thread, number); err != nil {
		t.Fatal(err)
	}
}

// putKernel says that all workers of the kernel are in a span.
func (run *appRun) putKernel(t *testing.T, number byte) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		name, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(name), "kworker/") {
			continue // ended, or another thread
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		run.put(t, pid, pid, number)
	}
}

// ioStep is what the thread of the test did in one span, by CLOCK_MONOTONIC.
type ioStep struct {
	ioPhase
	span byte
	want []string // its requests: name, device and sector
}

// appRun is one run with an application whose spans are known.
type appRun struct {
	scratch, other disk
	files          string // a file system
	filesOn        disk
	loop, mapped   disk
	slow           disk
	contexts       appContexts
	thread         int // that is in spans
	steps          []ioStep
	writeback      ioPhase
	merging        []int64 // processes of the merge
}

func newAppRun(t *testing.T) *appRun {
	t.Helper()
	loadBlockModules(t)
	run := &appRun{scratch: scratch(t), other: nullDisk(t, 0, nil), filesOn: nullDisk(t, 1, nil), slow: scsiDisk(t)}
	run.mapped = linearDisk(t, "apps", extent{nullDisk(t, 2, nil), 0, linearSectors})
	run.files = makeFS(t, run.filesOn, "-O", "^has_journal")
	image := run.files + "/image"
	must(t, "dd", "if=/dev/zero", "of="+image, "bs=1M", "count=4", "conv=fsync", "status=none")
	run.loop = loopDisk(t, image)
	return run
}

// disks are those that the steps work on.
func (run *appRun) disks() []disk {
	return []disk{run.scratch, run.other, run.filesOn, run.loop, run.mapped, run.slow}
}

// step does something in a span.
func (run *appRun) step(t *testing.T, number byte, do func() error, want ...string) {
	t.Helper()
	run.put(t, os.Getpid(), run.thread, number)
	s := ioStep{ioPhase: ioPhase{fromMonoNs: monoNs(t)}, span: number, want: want}
	if err := do(); err != nil {
		t.Error(err)
	}
	s.toMonoNs = monoNs(t)
	run.steps = append(run.steps, s)
}

// place is a request as the steps name it.
func place(name string, d disk, sector uint64) string {
	return fmt.Sprintf("block %s %s %d", name, d, sector)
}

// accessDisk opens a disk and reads or writes one block of it.
func accessDisk(d disk, flags int, sector uint64, memory []byte, after ...func(fd int) error) error {
	fd, err := unix.Open(d.node(), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", d, err)
	}
	defer func() { _ = unix.Close(fd) }() // what was written has been looked at
	access := unix.Pread
	if flags&unix.O_WRONLY != 0 {
		access = unix.Pwrite
	}
	if n, err := access(fd, memory, int64(sector*sectorSize)); err != nil || n != len(memory) {
		return fmt.Errorf("access sector %d of %s: %d bytes, %w", sector, d, n, err)
	}
	for _, f := range after {
		if err := f(fd); err != nil {
			return fmt.Errorf("flush %s: %w", d, err)
		}
	}
	return nil
}

// disturb does in a thread that is in no span what the test's does, until stop is
// closed, and at least once.
func disturb(shared, own disk, memory []byte, stop <-chan struct{}) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		for at := uint64(0); ; at += ioSize / sectorSize {
			err := errors.Join(
				accessDisk(shared, unix.O_WRONLY|unix.O_DIRECT, 32768+at%4096, memory),
				accessDisk(own, unix.O_WRONLY, 4096+at%4096, memory, unix.Fsync),
				accessDisk(own, unix.O_RDONLY, 16384+at%4096, memory))
			select {
			case <-stop:
				done <- err
				return // its thread ends with it
			default:
				if err != nil {
					done <- err
					return
				}
			}
		}
	}()
	return done
}

// appsOf are the numbers of the spans that the root of each trace is linked to, by
// the root's id. It checks what links and attributes must be.
func appsOf(t *testing.T, path string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		var numbers []byte
		for i, s := range spans.All() {
			if i > 0 && s.Links().Len() > 0 {
				t.Errorf("%s has links below its root", j)
			}
		}
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			source, _ := link.Attributes().Get("otel_kprobe.app.source")
			if link.TraceID() != ioTrace || kind.Str() != "submitted_by" || source.Str() != "thread" {
				t.Errorf("%s: link to trace %s, %q by %q", j, link.TraceID(), kind.Str(), source.Str())
			}
			numbers = append(numbers, link.SpanID()[7])
		}
		want := [3]string{}
		if len(numbers) > 0 {
			want = [3]string{hex.EncodeToString(ioTrace[:]), fmt.Sprintf("%016x", numbers[0]), "thread"}
		}
		got := [3]string{
			j.root.text("otel_kprobe.app.trace_id"), j.root.text("otel_kprobe.app.span_id"), j.root.text("otel_kprobe.app.source"),
		}
		if got != want {
			t.Errorf("%s: the application's span is %q, want %q", j, got, want)
		}
		all[j.root.id] = numbers
	})
	return all
}
