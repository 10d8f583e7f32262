package export

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// testDisks names what the requests of these tests refer to.
type testDisks struct{}

const (
	nvme0 = 259 << 20
	nvme1 = 259<<20 | 1
	part2 = 259<<20 | 2
	dm0   = 253 << 20
	evil  = 7 << 20
)

func (testDisks) Device(dev uint32) string {
	return map[uint32]string{nvme0: "nvme0n1", nvme1: "nvme1n1", part2: "nvme0n1p2", dm0: "dm-0", evil: "a\x1b[2Jé"}[dev]
}

func (testDisks) Operation(op uint8) string {
	return map[uint8]string{
		0: "read", 1: "write", 2: "flush", 3: "discard", 5: "secure_erase", 9: "write_zeroes", 15: "zone_reset",
	}[op]
}

func (testDisks) RequestFlag(bit uint8) string {
	return map[uint8]string{11: "sync", 12: "meta", 17: "fua"}[bit]
}

func (testDisks) Cgroup(id uint64) string {
	return map[uint64]string{77: "/system.slice/x.service", 78: "/a\x1b]0;b\x07"}[id]
}

const (
	flagSync = 1 << 11
	flagFUA  = 1 << 17

	statusMedium = 7 // BLK_STS_MEDIUM
)

// request makes one of dd, issued at an offset from packetStartNs, that took a
// time with the device.
func request(id uint64, dev uint32, op uint32, issueNs, tookNs uint64) *blockio.Request {
	return &blockio.Request{Block: event.Block{
		ID: id, Address: 0xffff888100000000 + id, Device: dev, Operation: op, Sector: 2048, Bytes: 4096, Done: 4096,
		IssueMonoNs: packetStartNs + issueNs, CompleteMonoNs: packetStartNs + issueNs + tookNs,
		TGID: 812, TID: 813, Bios: 1, Flags: event.BlockSubmitter, Comm: chars("dd"),
	}}
}

// submitted says how long before its issue a request was submitted, and how long
// of that the I/O scheduler had it.
func submitted(r *blockio.Request, queueNs, schedulerNs uint64) *blockio.Request {
	r.SubmitMonoNs = r.IssueMonoNs - queueNs
	if schedulerNs > 0 {
		r.InsertMonoNs = r.IssueMonoNs - schedulerNs
	}
	return r
}

// bio makes one of a device without requests.
func bio(id uint64, dev uint32, op uint32, submitNs, tookNs uint64) *blockio.Request {
	r := request(id, dev, op, submitNs, tookNs)
	r.Bio, r.SubmitMonoNs, r.IssueMonoNs = true, r.IssueMonoNs, 0
	return r
}

func plainRequests() []*blockio.Request {
	whole := submitted(request(1, nvme0, 1|flagSync|flagFUA, 0, 1_234_000), 12_300, 0)
	whole.Partition, whole.Cgroup = part2, 77
	scheduled := submitted(request(2, nvme0, 0, 10_000, 95_250), 5_000, 3_200)
	scheduled.App = event.AppContext{TraceID: [16]byte{0: 0x4b, 15: 1}, SpanID: [8]byte{1: 0xf0, 7: 2}}
	merged := submitted(request(3, nvme0, 1, 2_000_000, 3_000_000_000), 250, 0)
	merged.Flags, merged.Cgroup, merged.TGID, merged.TID, merged.Comm = event.BlockWriteback|event.BlockSubmitter, 77, 90, 90, chars("kworker/u8:1")
	merged.Bios, merged.Bytes, merged.Done = 3, 12288, 12288
	for range 2 {
		merged.Merges = append(merged.Merges, event.Block{ID: 3, Sector: 2056, Bytes: 4096, Flags: event.BlockMerged})
	}
	flush := request(4, nvme0, 2, 5_000_000, 700_000)
	flush.Sector, flush.Bytes, flush.Done, flush.Bios, flush.Flags, flush.TGID, flush.TID, flush.Comm = 0, 0, 0, 0, 0, 0, 0, [16]byte{}
	return []*blockio.Request{whole, scheduled, merged, flush}
}

// failures are requests of which not all went well.
func failures() []*blockio.Request {
	failed := submitted(request(11, nvme1, 0, 0, 50_000), 1_000, 0)
	failed.Status, failed.Done, failed.Block.Requeues = statusMedium, 512, 2
	for at := range uint64(2) {
		failed.Requeues = append(failed.Requeues, event.Block{
			ID: 11, IssueMonoNs: failed.IssueMonoNs + at*10_000, CompleteMonoNs: failed.IssueMonoNs + at*10_000 + 5_000,
		})
	}
	open := request(12, nvme0, 3, 100, 900_000)
	open.Unfinished, open.Done, open.Block.Requeues = true, 0, 1
	orphan := request(13, nvme0, 5, 200, 1_000)
	orphan.Orphan = true
	hostile := request(14, evil, 15, 300, 2_000)
	hostile.Comm, hostile.Cgroup, hostile.Sector = chars("x\n\x00"), 78, ^uint64(0)
	return []*blockio.Request{failed, open, orphan, hostile}
}

// stacked are bios on a device of two others.
func stacked() []*blockio.Request {
	mirror := bio(21, dm0, 1|flagSync, 0, 1_500_000)
	mirror.Sector, mirror.Bytes, mirror.Done = 4096, 8192, 8192
	good := submitted(request(22, nvme0, 1|flagSync, 10_000, 1_100_000), 2_000, 0)
	bad := submitted(request(23, nvme1, 1|flagSync, 12_000, 1_400_000), 11_500, 4_000)
	bad.Status, bad.Sector, bad.Done = statusMedium, 0, 0
	mirror.Children = []*blockio.Request{good, bad}

	upper, lower := bio(24, dm0, 9, 0, 80_000), bio(25, dm0, 9, 3_000, 70_000)
	lost := submitted(request(26, nvme0, 9, 9_000, 60_000), 1_000, 0)
	lost.Unfinished, lost.Done, lost.Bios, lost.Block.Requeues = true, 0, 2, 1
	upper.Children, lower.Children = []*blockio.Request{lower}, []*blockio.Request{lost}
	return []*blockio.Request{mirror, upper}
}

// testBlockTraces gives the text of all requests.
func testBlockTraces(t *testing.T, o ConsoleOptions) string {
	t.Helper()
	b := spans.NewRequestBuilder(spans.BlockOptions{Names: testDisks{}, Clock: newTestKernel(), Seed: [16]byte{1}})
	var out collector
	c := NewConsole(&out, o)
	for _, list := range [][]*blockio.Request{plainRequests(), failures(), stacked()} {
		for _, r := range list {
			c.Export(b.Build(r))
		}
	}
	s := c.Stats()
	if s.Traces != 10 || s.Batches != 10 || s.Spans != s.Exported || s.Lost() != 0 || s.Bytes != uint64(len(out)) {
		t.Errorf("stats: %+v", s)
	}
	return string(out)
}
