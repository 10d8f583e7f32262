//go:build vm

package scenario

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestBlockApps plays an application that is in one span after the other while its
// thread reads and writes. Exactly the requests of that thread are to name its spans,
// each the one that it was submitted in.
func TestBlockApps(t *testing.T) {
	unpinSpans(t) // otel-kprobe is to make the map
	app := newAppRun(t)
	tracers := launchEach(t, [][]string{
		{"--record", "DIR/recording"}, {"--only", "correlated"}, {"--correlate", "off"},
	})
	app.contexts = openAppContexts(t, ioTrace)
	app.work(t)
	time.Sleep(settle)
	o := tracers[0].stop(t)
	checkBlockSums(t, o)
	all, apps := readRequests(t, o.output()), appsOf(t, o.output())
	t.Run("each request", func(t *testing.T) { app.checkApps(t, all, apps) })
	t.Run("all requests of the thread", func(t *testing.T) { app.checkSteps(t, all) })
	t.Run("write-back", func(t *testing.T) { app.checkWriteback(t, all, apps) })
	t.Run("merge", func(t *testing.T) { app.checkMerge(t, all, apps) })
	t.Run("only correlated", func(t *testing.T) {
		checkOnlyCorrelated(t, all, apps, tracers[1].stop(t).output())
		path := filepath.Join(t.TempDir(), "spans")
		replay := run(t, "replay", "--only", "correlated", "--output", path, o.recording())
		if replay.exit != 0 {
			t.Errorf("replay: exit status %d\n%s", replay.exit, replay.stderr)
		}
		checkOnlyCorrelated(t, all, apps, path)
	})
	t.Run("off", func(t *testing.T) { app.checkOff(t, tracers[2].stop(t).output()) })
	checkClean(t)
}

// work is all that the application does. The calling thread is the one in spans.
func (run *appRun) work(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	run.thread = unix.Gettid()
	memory, stop := aligned(t, ioSize), make(chan struct{})
	disturbed := disturb(run.scratch, run.other, aligned(t, ioSize), stop)
	direct := func(d disk, sector uint64) func() error {
		return func() error { return accessDisk(d, unix.O_WRONLY|unix.O_DIRECT, sector, memory) }
	}
	run.step(t, spanDirect, direct(run.scratch, 2048), place("write", run.scratch, 2048))
	run.step(t, spanNext, direct(run.scratch, 2064), place("write", run.scratch, 2064))
	run.step(t, 0, direct(run.scratch, 2080), place("write", run.scratch, 2080))
	run.step(t, spanFsync, func() error {
		return accessDisk(run.scratch, unix.O_WRONLY, 4096, memory, unix.Fsync)
	}, place("flush", run.scratch, 0), place("write", run.scratch, 4096))
	run.step(t, spanRead, func() error {
		return accessDisk(run.scratch, unix.O_RDONLY, 8192, memory)
	}, place("read", run.scratch, 8192))
	run.step(t, spanMapped, direct(run.mapped, 8), place("write", run.mapped, 8))
	run.step(t, spanLoop, direct(run.loop, 16), place("write", run.loop, 16))
	close(stop)
	if err := <-disturbed; err != nil {
		t.Error(err)
	}
	run.step(t, spanDirty, func() error {
		return os.WriteFile(run.files+"/dirty", make([]byte, writebackBytes), 0o600)
	})
	run.put(t, os.Getpid(), run.thread, 0)
	run.writeBack(t)
	run.merge(t)
	run.mergeOfOne(t)
}

// writeBack lets the kernel write what the application left dirty, with workers that
// seem to be in a span.
func (run *appRun) writeBack(t *testing.T) {
	t.Helper()
	run.writeback.fromMonoNs = monoNs(t)
	run.putKernel(t, spanKernel)
	must(t, "sync")
	run.putKernel(t, 0)
	run.writeback.toMonoNs = monoNs(t)
}

// merge lets two processes that are in different spans meet in the scheduler.
func (run *appRun) merge(t *testing.T) {
	t.Helper()
	writers := gateMerge(t, run.slow)
	for i, number := range []byte{0, spanFirst, spanSecond} {
		pid := int(writers[i].pid())
		run.merging = append(run.merging, int64(pid))
		run.put(t, pid, pid, number)
	}
	openMerge(t, run.slow, writers)
}

// mergeOfOne gives the scheduler two writes of this thread that meet there, though
// each was submitted in another span.
func (run *appRun) mergeOfOne(t *testing.T) {
	t.Helper()
	busy := gate(t, ioSize, busySector*sectorSize/ioSize, run.slow.node(), "oflag=direct")
	w := newAsyncWriter(t, run.slow)
	memory := aligned(t, ioSize)
	setSCSIDelay(t, mergeDelayNs)
	busy.open(t)
	waitIssued(t, run.slow)
	for i, number := range []byte{spanFirst, spanSecond, spanSecond} {
		run.put(t, os.Getpid(), run.thread, number)
		if err := w.start(ownSector+uint64(i)*ioSize/sectorSize, memory); err != nil {
			t.Error(err)
		}
	}
	run.put(t, os.Getpid(), run.thread, 0)
	busy.wait(t)
	w.finish(t)
	setSCSIDelay(t, scsiDelayNs)
}

// ownSector is where mergeOfOne writes.
const ownSector = 12288

// merged says that a request is one of those that were merged.
func (run *appRun) merged(r *request) bool {
	return r.number(keyPID) == run.merging[1] || r.text(keyDevice) == string(run.slow) && r.number(keySector) == ownSector
}

func (p ioPhase) has(r *request) bool {
	return r.startMonoNs >= p.fromMonoNs && r.startMonoNs <= p.toMonoNs
}

// stepOf is the step in which the test's thread submitted a request, nil when
// another thread did.
func (run *appRun) stepOf(r *request) *ioStep {
	if r.number("thread.id") != int64(run.thread) || r.attrs[keyWriteback] != nil {
		return nil
	}
	for i := range run.steps {
		if run.steps[i].has(r) {
			return &run.steps[i]
		}
	}
	return nil
}

// checkApps expects each request to name the spans that it was submitted in, and no
// others.
func (run *appRun) checkApps(t *testing.T, all []*request, apps map[string][]byte) {
	named := map[byte]int{}
	for _, r := range all {
		var want []byte
		step := run.stepOf(r)
		switch {
		case step != nil && step.span != 0:
			want = []byte{step.span}
		case run.merged(r):
			want = []byte{spanFirst, spanSecond}
		case strings.HasPrefix(r.text(keyThreadName), "kworker/") && run.writeback.has(r):
			continue // not written back: what it names is what the test says
		case r.number("thread.id") == int64(run.thread) && !slices.Contains(run.disks(), disk(r.text(keyDevice))):
			continue // a page of the test's own program, read between two steps
		}
		if got := apps[r.id]; !slices.Equal(got, want) {
			t.Errorf("%s of thread %d (%s) names spans %v, want %v", r, r.number("thread.id"), r.text(keyThreadName), got, want)
		}
		for _, number := range apps[r.id] {
			named[number]++
		}
	}
	t.Logf("%d requests; how many name each span: %v", len(all), named)
}

// checkSteps expects the requests of each step to have been seen. One of another disk is
// for a page of the test's own program.
func (run *appRun) checkSteps(t *testing.T, all []*request) {
	for i := range run.steps {
		step := &run.steps[i]
		var got []string
		for _, r := range all {
			if run.stepOf(r) == step && slices.Contains(run.disks(), disk(r.text(keyDevice))) {
				got = append(got, place(r.operation(), disk(r.text(keyDevice)), uint64(max(0, r.number(keySector)))))
			}
		}
		slices.Sort(got)
		if diff := gocmp.Diff(step.want, got); step.want != nil && diff != "" {
			t.Errorf("requests in span %d (-want +got):\n%s", step.span, diff)
		}
	}
}

// checkWriteback expects the file's bytes to belong to no span.
func (run *appRun) checkWriteback(t *testing.T, all []*request, apps map[string][]byte) {
	bytes := int64(0)
	for _, r := range on(all, run.filesOn) {
		if r.attrs[keyWriteback] == nil {
			continue
		}
		bytes += r.number(keyBytes)
		if len(apps[r.id]) > 0 {
			t.Errorf("%s was written back, and names spans %v", r, apps[r.id])
		}
	}
	if bytes < writebackBytes {
		t.Errorf("%d bytes were written back, want at least %d", bytes, writebackBytes)
	}
}

// checkMerge expects one request of two processes in two spans, and one of a thread
// that went from one to the other, with an event for each bio of the second.
func (run *appRun) checkMerge(t *testing.T, all []*request, apps map[string][]byte) {
	requests := pick(all, run.merged)
	if len(requests) != 2 {
		t.Fatalf("%d merged requests, want 2: %v", len(requests), requests)
	}
	for i, r := range requests {
		got := apps[r.id]
		if merges := len(r.named("merge")); !slices.Equal(got, []byte{spanFirst, spanSecond}) || merges != i+1 {
			t.Errorf("%s names spans %v and has %d merges", r, got, merges)
		}
	}
}

// checkOnlyCorrelated expects a file to have those requests that name a span.
func checkOnlyCorrelated(t *testing.T, all []*request, apps map[string][]byte, path string) {
	t.Helper()
	want := outlines(pick(all, func(r *request) bool { return len(apps[r.id]) > 0 }))
	got := outlines(readRequests(t, path))
	for _, list := range [][]outline{want, got} {
		slices.SortFunc(list, func(a, b outline) int { return cmp.Or(compareOutlines(a, b), cmp.Compare(a.Name, b.Name)) })
	}
	if diff := gocmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("%d correlated requests (-want +got):\n%s", len(want), diff)
	}
}

// checkOff expects the same requests without a word of spans.
func (run *appRun) checkOff(t *testing.T, path string) {
	all := readRequests(t, path)
	run.checkSteps(t, all)
	for id, numbers := range appsOf(t, path) {
		if len(numbers) > 0 {
			t.Errorf("the root %s names spans %v", id, numbers)
		}
	}
}

// TestBlockWithoutContexts expects a run to go on, and to say so once, where the map
// with the spans of threads cannot be used.
func TestBlockWithoutContexts(t *testing.T) {
	loadBlockModules(t)
	null := nullDisk(t, 0, nil)
	check := func(t *testing.T, says string) {
		tr := startBlock(t, "--device", string(null))
		writeDirect(t, null.node(), 8, ioSize)
		o := tr.stop(t)
		only(t, readRequests(t, o.output()))
		appsOf(t, o.output())
		const unknown = "spans of applications are not known"
		if strings.Count(o.stderr, unknown) != 1 || !strings.Contains(o.stderr, says) {
			t.Errorf("standard error has no sentence %q with %q:\n%s", unknown, says, o.stderr)
		}
	}
	t.Run("another map", func(t *testing.T) {
		unpinSpans(t)
		if err := os.MkdirAll(filepath.Dir(appContextsPath), 0o700); err != nil {
			t.Fatal(err)
		}
		m := otherMap(t)
		defer m.Close()
		if err := m.Pin(appContextsPath); err != nil {
			t.Fatal(err)
		}
		defer unpinSpans(t)
		check(t, "its keys have 4 bytes")
	})
	t.Run("no BPF file system", func(t *testing.T) {
		must(t, "umount", "/sys/fs/bpf")
		defer must(t, "mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
		check(t, "mount a BPF file system at /sys/fs/bpf")
	})
	checkClean(t)
}

// otherMap makes a map that is not the interface's. Linux 5.10 takes it from the
// locked memory of the process, whose limit otel-kprobe is not to inherit raised.
func otherMap(t *testing.T) *ebpf.Map {
	t.Helper()
	unlimited, limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, unix.Rlimit{}
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unlimited, &limit); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 24, MaxEntries: 1})
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}
