//go:build vm

package scenario

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// ioPhase is a part of the run, by CLOCK_MONOTONIC: requests that began in it.
type ioPhase struct{ fromMonoNs, toMonoNs uint64 }

// ioRun is one run over every kind of device.
type ioRun struct {
	*outcome
	summary  *blockSummary
	requests []*request // roots
	scratch  disk
	phases   map[string]ioPhase
	pids     map[string]int64    // of who wrote, by what for
	counted  map[string]ioCounts // of scratch, by phase, as traced
	traced   map[string]blkTrace
	charged  int64  // bytes written for writerCgroup
	fileAt   uint64 // sector of the file under the loop device
}

// in are the traces of a phase.
func (run *ioRun) in(name string) []*request {
	p := run.phases[name]
	return pick(run.requests, func(r *request) bool {
		return r.startMonoNs >= p.fromMonoNs && r.startMonoNs <= p.toMonoNs
	})
}

// phase runs f as a part of the run.
func (run *ioRun) phase(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	p := ioPhase{fromMonoNs: monoNs(t)}
	f(t)
	p.toMonoNs = monoNs(t)
	run.phases[name] = p
	t.Logf("%s took %v", name, time.Duration(p.toMonoNs-p.fromMonoNs).Round(time.Millisecond))
}

// TestBlock traces every kind of device and request in one run, and holds the
// spans to what the kernel, blktrace and the drivers say of the same requests.
func TestBlock(t *testing.T) {
	run := captureBlock(t)
	for _, phase := range []string{"fio", "file system"} {
		requests, traced := on(run.in(phase), run.scratch), run.traced[phase]
		t.Run(phase+" against diskstats", func(t *testing.T) {
			checkDiskStats(t, requests, run.counted[phase], traced.empty)
		})
		t.Run(phase+" against blktrace", func(t *testing.T) { checkBlktrace(t, requests, traced.requests) })
	}
	t.Run("medium error", func(t *testing.T) { checkMediumError(t, run.in("medium error")) })
	t.Run("delay", func(t *testing.T) { checkDelay(t, run.in("delay")) })
	t.Run("requeue", func(t *testing.T) { checkRequeue(t, run.in("requeue")) })
	t.Run("stacks", func(t *testing.T) { checkStacks(t, run) })
	t.Run("merge of two submitters", func(t *testing.T) { checkMergeOfTwo(t, run) })
	t.Run("merge of one submitter", func(t *testing.T) { checkMergeOfOne(t, run) })
	t.Run("partition", func(t *testing.T) { checkPartition(t, run) })
	t.Run("flush", func(t *testing.T) { checkFlush(t, run) })
	t.Run("write-back", func(t *testing.T) { checkWriteback(t, run) })
	t.Run("passthrough", func(t *testing.T) { checkPassthrough(t, run) })
	t.Run("histogram", func(t *testing.T) { checkWholeHistogram(t, run) })
	t.Run("replay", func(t *testing.T) { checkBlockReplay(t, run) })
	t.Run("nothing left behind", checkClean)
}

func captureBlock(t *testing.T) *ioRun {
	t.Helper()
	loadBlockModules(t)
	makeCgroup(t, writerCgroup)
	run := &ioRun{
		scratch: scratch(t),
		phases:  map[string]ioPhase{}, pids: map[string]int64{}, counted: map[string]ioCounts{}, traced: map[string]blkTrace{},
	}
	slow := scsiDisk(t)
	tr := startBlock(t, "--record", "DIR/recording")
	for _, p := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"fio", run.fio},
		{"file system", run.fileSystem},
		{"partition", run.partition},
		{"flush", run.flush},
		{"write-back", run.writeback},
		{"loop", run.loop},
		{"linear", run.linear},
		{"raid", run.raid},
		{"zram", run.zram},
		{"scsi", func(t *testing.T) { run.scsi(t, slow) }},
	} {
		// A test of its own, so that what it makes ends with it, within the run.
		if !t.Run("do "+p.name, func(t *testing.T) { run.phase(t, p.name, p.f) }) {
			t.Fatalf("%s failed", p.name)
		}
	}
	time.Sleep(settle)
	run.outcome = tr.signal(t, syscall.SIGTERM)
	if run.exit != 0 {
		t.Fatalf("exit status %d, want 0\n%s", run.exit, run.stderr)
	}
	run.summary = checkBlockSums(t, run.outcome)
	run.requests = readRequests(t, run.output())
	if n := uint64(len(flat(run.requests))); n != run.summary.Requests {
		t.Errorf("the file has %d requests and bios, the summary says %d", n, run.summary.Requests)
	}
	return run
}

// writerCgroup is where the process of the write-back runs.
const writerCgroup = "writer"

// fioJobs are direct and buffered, random and sequential, and a discard.
const fioJobs = `
[global]
thread=1
stonewall=1
randseed=1
[random]
direct=1
ioengine=libaio
iodepth=4
rw=randrw
bs=4k
size=16m
number_ios=150
[sequential]
direct=1
ioengine=psync
rw=write
bs=64k
offset=16m
size=1m
[buffered]
ioengine=psync
rw=write
bs=4k
offset=32m
size=256k
fsync=16
[discard]
direct=1
ioengine=psync
rw=trim
bs=64k
offset=48m
size=512k
`

func (run *ioRun) fio(t *testing.T) {
	jobs := filepath.Join(t.TempDir(), "jobs.fio")
	if err := os.WriteFile(jobs, []byte(fioJobs), 0o644); err != nil {
		t.Fatal(err)
	}
	run.witness(t, "fio", func() {
		must(t, "fio", "--filename="+run.scratch.node(), "--output=/dev/null", jobs)
	})
}

// fileSystem is a journal's life: flushes before and with its writes.
func (run *ioRun) fileSystem(t *testing.T) {
	run.witness(t, "file system", func() {
		dir := makeFS(t, run.scratch)
		must(t, "dd", "if=/dev/zero", "of="+dir+"/file", "bs=64k", "count=8", "conv=fsync", "status=none")
		must(t, "umount", dir)
	})
}

// witness lets the kernel and blktrace say what f does to the scratch disk.
func (run *ioRun) witness(t *testing.T, phase string, f func()) {
	t.Helper()
	stop := startBlktrace(t, run.scratch)
	before := readDiskStats(t, run.scratch)
	f()
	run.counted[phase] = readDiskStats(t, run.scratch).since(before)
	run.traced[phase] = stop()
}

// The partition, and the block of ioSize bytes in it that is written.
const (
	partStart, partLength = 4096, 8192 // sectors
	partBlock             = 3
	ioSize                = 4096
)

func (run *ioRun) partition(t *testing.T) {
	p := addPartition(t, run.scratch, extent{start: partStart, length: partLength})
	w := gate(t, ioSize, partBlock, p.node(), "oflag=direct")
	run.pids["partition"] = w.pid()
	w.finish(t)
	time.Sleep(settle) // see linear
}

func (run *ioRun) flush(t *testing.T) {
	w := gate(t, ioSize, 0, run.scratch.node(), "oflag=direct", "conv=notrunc,fsync")
	run.pids["flush"] = w.pid()
	w.finish(t)
}

const writebackBytes = 1 << 20

// writeback lets a process in a cgroup write to a file: in it from before the
// file is there, since a file's dirty pages belong to the cgroup that made it
// dirty first. The kernel says what it charged.
func (run *ioRun) writeback(t *testing.T) {
	dir := makeFS(t, run.scratch, "-O", "^has_journal")
	procs := filepath.Join(cgroupRoot, writerCgroup, "cgroup.procs")
	before := writtenBy(t, writerCgroup, run.scratch)
	must(t, "sh", "-c", "echo $$ >"+procs+"; exec dd if=/dev/zero of="+dir+"/file bs="+strconv.Itoa(writebackBytes)+" count=1 status=none")
	must(t, "sync")
	run.charged = writtenBy(t, writerCgroup, run.scratch) - before
	must(t, "umount", dir)
}

// scsi is all that is done to the disk of scsi_debug.
func (run *ioRun) scsi(t *testing.T, d disk) {
	t.Helper()
	run.phase(t, "merge", func(t *testing.T) { run.merge(t, d) })
	run.phase(t, "medium error", func(t *testing.T) {
		setMediumErrors(t, true)
		defer setMediumErrors(t, false)
		if err := readDirect(t, d.node(), badPage, ioSize); err == nil {
			t.Error("scsi_debug read a bad sector")
		}
	})
	run.phase(t, "delay", func(t *testing.T) {
		for i := range uint64(delayedReads) {
			if err := readDirect(t, d.node(), delayedSector+i*ioSize/sectorSize, ioSize); err != nil {
				t.Error(err)
			}
		}
	})
	run.phase(t, "requeue", func(t *testing.T) {
		setHostBusy(t, true)
		defer setHostBusy(t, false)
		for i := range uint64(requeuedReads) {
			if err := readDirect(t, d.node(), requeuedSector+i*ioSize/sectorSize, ioSize); err != nil {
				t.Error(err)
			}
		}
	})
	run.phase(t, "passthrough", func(t *testing.T) {
		identify(t, run.scratch)
		rawRead(t, run.scratch, ioSize)
		inquire(t, d)
	})
}

const (
	// badPage is the sector of the page in which the bad sectors begin.
	badPage = mediumErrorStart / 8 * 8
	// The reads of the delay are where no scan for partitions reads.
	delayedReads, delayedSector = 4, 16384
	// Those that the host is too busy for at first.
	requeuedReads, requeuedSector = 6, 17408
)

// Sectors of the merge: the disk is busy with the first, the two others meet in
// the scheduler.
const (
	busySector   = 2048
	mergedSector = 4096
)

// merge lets two processes write to adjacent places while the disk is busy:
// the scheduler makes one request of them.
func (run *ioRun) merge(t *testing.T, d disk) {
	t.Helper()
	writers := gateMerge(t, d)
	run.pids["busy"], run.pids["first"], run.pids["second"] = writers[0].pid(), writers[1].pid(), writers[2].pid()
	openMerge(t, d, writers)

	// Two pages that one fsync writes: the plug of the process merges them.
	must(t, "dd", "if=/dev/zero", "of="+run.scratch.node(), "bs="+strconv.Itoa(ioSize), "count=2",
		"seek="+strconv.Itoa(pluggedSector*sectorSize/ioSize), "conv=notrunc,fsync", "status=none")
}

// gateMerge starts the processes: one that keeps the disk busy, and two that meet.
func gateMerge(t *testing.T, d disk) (writers [3]*gatedWriter) {
	t.Helper()
	d.scheduler(t, "mq-deadline")
	for i, sector := range []uint64{busySector, mergedSector, mergedSector + ioSize/sectorSize} {
		writers[i] = gate(t, ioSize, sector*sectorSize/ioSize, d.node(), "oflag=direct")
	}
	return writers
}

// openMerge lets them write.
func openMerge(t *testing.T, d disk, writers [3]*gatedWriter) {
	t.Helper()
	setSCSIDelay(t, mergeDelayNs)
	writers[0].open(t)
	waitIssued(t, d)
	writers[1].open(t)
	writers[1].waitAtDisk(t)
	writers[2].open(t)
	for _, w := range writers {
		w.wait(t)
	}
	setSCSIDelay(t, scsiDelayNs)
}

const (
	// mergeDelayNs is long enough for two writes to be submitted meanwhile.
	mergeDelayNs  = 900_000_000
	pluggedSector = 8192
)
