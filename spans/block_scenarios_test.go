package spans

import (
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// fakeBlock names what the block scenarios use.
type fakeBlock struct{ fakeKernel }

func (*fakeBlock) Device(dev uint32) string {
	return map[uint32]string{devDisk: "nvme0n1", devPartition: "nvme0n1p2", devSDA: "sda", devSDB: "sdb", devDM: "dm-0"}[dev]
}

func (*fakeBlock) Operation(op uint8) string {
	return map[uint8]string{0: "read", 1: "write", 2: "flush", 3: "discard", 34: "drv_in"}[op]
}

func (*fakeBlock) RequestFlag(bit uint8) string {
	return map[uint8]string{11: "sync", 12: "meta", 17: "fua", 18: "preflush", 19: "rahead", 20: "background"}[bit]
}

func (*fakeBlock) Cgroup(id uint64) string {
	return map[uint64]string{
		100: "/user.slice/user-0.slice/session-1.scope",
		200: "/system.slice/docker-" + testContainer + ".scope",
	}[id]
}

const (
	devDisk      = 259 << 20
	devPartition = 259<<20 | 2
	devSDA       = 8 << 20
	devSDB       = 8<<20 | 16
	devDM        = 253 << 20

	testContainer = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	testUs        = 1000
)

func testRequestBuilder() *RequestBuilder {
	k := &fakeBlock{}
	return NewRequestBuilder(BlockOptions{Names: k, Clock: k, Seed: [16]byte{1, 2, 3}})
}

// blockScenarios are what the block layer does, each as the tracker gives it.
func blockScenarios() map[string]*blockio.Request {
	return map[string]*blockio.Request{
		"read": plainRead(), "write-queued": queuedWrite(), "merged": mergedWrite(), "requeued": requeuedRead(),
		"medium-error": mediumError(), "dm": dmOverTwoDisks(), "unfinished": unfinishedFlush(),
		"writeback": writeback(), "orphan": orphan(), "app": appRead(), "app-merged": appMerged(), "app-dm": appOverTwoDisks(),
	}
}

// plainRead is a read of 4 KiB without a scheduler.
func plainRead() *blockio.Request {
	return &blockio.Request{Block: event.Block{
		ID: 7, Address: skbA, SubmitMonoNs: 5 * testSec, IssueMonoNs: 5*testSec + 2*testUs, CompleteMonoNs: 5*testSec + 80*testUs,
		Sector: 2048, Cgroup: 100, Device: devDisk, Partition: devPartition, Bytes: 4096, Done: 4096,
		TGID: 4711, TID: 4712, IOPriority: 2<<13 | 4, Bios: 1, CPU: 3, Flags: event.BlockSubmitter, Comm: fixed("fio"),
	}}
}

// queuedWrite waits in a scheduler before it is issued.
func queuedWrite() *blockio.Request {
	r := plainRead()
	r.ID, r.Operation = 8, 1|1<<11|1<<17|1<<27
	r.InsertMonoNs, r.IssueMonoNs = r.SubmitMonoNs+3*testUs, r.SubmitMonoNs+50*testUs
	return r
}

// mergedWrite took along bios of another process, of write-back and of one whose
// submission was not seen.
func mergedWrite() *blockio.Request {
	r := queuedWrite()
	r.ID, r.Bios, r.Bytes, r.Done = 9, 4, 16384, 16384
	for i := range uint64(3) {
		m := r.Block
		m.Sector, m.Bytes, m.SubmitMonoNs = r.Sector+8*(i+1), 4096, r.SubmitMonoNs+testUs*i
		m.Flags |= event.BlockMerged
		r.Merges = append(r.Merges, m)
	}
	r.Merges[0].TGID, r.Merges[0].TID, r.Merges[0].Comm, r.Merges[0].Cgroup = 99, 98, fixed("postgres"), 200
	r.Merges[1].Flags |= event.BlockWriteback
	r.Merges[2].Flags, r.Merges[2].SubmitMonoNs, r.Merges[2].Cgroup = event.BlockMerged, 0, 0
	return r
}

// requeuedRead is given back twice, the second time with a status.
func requeuedRead() *blockio.Request {
	r := plainRead()
	r.ID, r.Block.Requeues = 10, 2
	for i := range uint64(2) {
		q := r.Block
		q.IssueMonoNs = r.IssueMonoNs + i*20*testUs
		q.CompleteMonoNs = q.IssueMonoNs + 5*testUs
		q.Status = int32(i * 13)
		r.Requeues = append(r.Requeues, q)
	}
	return r
}

func mediumError() *blockio.Request {
	r := plainRead()
	r.ID, r.Status, r.Done, r.Device, r.Partition = 11, 7, 512, devSDA, 0
	return r
}

// dmOverTwoDisks is a write to a device mapper target that a bio splits over two
// disks, one of which fails.
func dmOverTwoDisks() *blockio.Request {
	r := &blockio.Request{Bio: true, Block: plainRead().Block}
	r.ID, r.IssueMonoNs, r.Operation = 12, 0, 1|1<<11
	r.Device, r.Partition, r.Bytes, r.Done, r.Status = devDM, 0, 8192, 4096, 10
	for i, dev := range []uint32{devSDA, devSDB} {
		c := queuedWrite()
		c.ID, c.Parent, c.Device, c.Partition = uint64(13+i), r.ID, dev, 0
		c.SubmitMonoNs += uint64(i) * testUs
		c.CompleteMonoNs -= uint64(20+i) * testUs
		r.Children = append(r.Children, c)
	}
	r.Children[1].Status, r.Children[1].Done = -5, 0
	r.Children[1].Flags |= event.BlockErrno
	return r
}

// unfinishedFlush was under way at the end, and has waiters.
func unfinishedFlush() *blockio.Request {
	r := plainRead()
	r.ID, r.Operation, r.Sector, r.Bytes, r.Done, r.Bios, r.Unfinished = 15, 2|1<<18, 0, 0, 0, 0, true
	m := r.Block
	m.TID = 4713
	r.Merges = []event.Block{m}
	return r
}

func writeback() *blockio.Request {
	r := queuedWrite()
	r.ID, r.Cgroup, r.Operation, r.IOPriority = 16, 200, 1|1<<20, 3<<13
	r.Flags |= event.BlockWriteback
	return r
}

// orphan began before the program did, below something that never came, with
// numbers that nobody can name.
func orphan() *blockio.Request {
	return &blockio.Request{Orphan: true, Block: event.Block{
		ID: 17, Parent: 3, CompleteMonoNs: 5 * testSec, Device: 7<<20 | 3, Operation: 35, Sector: ^uint64(0),
		Bytes: 512, Bios: 1, Cgroup: 300, IOPriority: 5<<13 | 9, Status: 18,
	}}
}

// testApp is a span of an application.
func testApp(n byte) event.AppContext {
	return event.AppContext{TraceID: [16]byte{0: 0x4b, 15: n}, SpanID: [8]byte{0: 0xf0, 7: n}}
}

func appRead() *blockio.Request {
	r := plainRead()
	r.ID, r.App = 18, testApp(1)
	return r
}

// appMerged took along bios of the same span, of two others and of none; the first
// bio's is known by a part of its ids only, which is none.
func appMerged() *blockio.Request {
	r := mergedWrite()
	r.ID, r.App.TraceID = 19, testApp(1).TraceID
	r.Merges[0].App, r.Merges[2].App = testApp(2), testApp(3)
	again := r.Merges[0]
	again.App = testApp(2)
	r.Merges = append(r.Merges, again)
	return r
}

// appOverTwoDisks has its span on the root, also where a lower request was merged
// with that of another span, which has a root of its own.
func appOverTwoDisks() *blockio.Request {
	r := dmOverTwoDisks()
	r.ID, r.App = 20, testApp(1)
	for _, c := range r.Children {
		c.Parent, c.App = r.ID, testApp(1)
	}
	m := r.Children[0].Block
	m.Flags |= event.BlockMerged
	m.App = testApp(2)
	r.Children[0].Merges = []event.Block{m}
	return r
}
