package spans

import (
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

const (
	textBase  = 0xffffffff81000000
	taskStack = 0xffffc90000100000
	softStack = 0xffffc90000200000
	skbA      = 0xffff888004a1b200
	skbB      = 0xffff888004a1b300
	testSec   = 1_000_000_000
	// testOffset puts CLOCK_MONOTONIC 0 at 2026-01-02 03:04:05 UTC.
	testOffset = 1_767_323_045 * testSec
)

// fakeKernel names functions by a number that testFrames get from fn.
type fakeKernel struct {
	functions []Function
	byName    map[string]uint64
	asked     int
}

func newFakeKernel() *fakeKernel { return &fakeKernel{byName: map[string]uint64{}} }

// fn returns the address of a function, "module:name" for one in a module.
func (k *fakeKernel) fn(name string) uint64 {
	if a, ok := k.byName[name]; ok {
		return a
	}
	f := Function{Name: name}
	for i := range name {
		if name[i] == ':' {
			f = Function{Module: name[:i], Name: name[i+1:]}
		}
	}
	k.functions = append(k.functions, f)
	a := textBase + uint64(len(k.functions))*0x100
	k.byName[name] = a
	return a
}

func (k *fakeKernel) Function(addr uint64) Function {
	k.asked++
	i := (addr - textBase) / 0x100
	if addr < textBase || i == 0 || i > uint64(len(k.functions)) {
		return Function{}
	}
	return k.functions[i-1]
}

func (k *fakeKernel) Location(addr uint64) string {
	f := k.Function(addr &^ 0xff)
	if f.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s+0x%x", f.Name, addr&0xff)
}

func (k *fakeKernel) DropReason(v uint32) string {
	return map[uint32]string{2: "NOT_SPECIFIED", 3: "NO_SOCKET", 8: "NETFILTER_DROP"}[v]
}

func (k *fakeKernel) NetNS(inum uint32, _ uint64) string {
	return map[uint32]string{4026531840: "init", 4026532200: "client"}[inum]
}

func (k *fakeKernel) OffsetNs(uint64) int64 { return testOffset }

// testJourney builds a journey frame by frame: call and ret keep the stack.
type testJourney struct {
	journey.Journey
	k     *fakeKernel
	now   uint64
	skb   uint64
	stack uint64
	tid   uint32
	cpu   uint16
	len   uint32
	mark  uint32
	facts uint32
	order map[uint64]uint32
}

func newTestJourney(k *fakeKernel, id uint64) *testJourney {
	return &testJourney{
		Journey: journey.Journey{ID: id}, k: k, now: 5 * testSec, skb: skbA,
		stack: taskStack + 0x3000, tid: 4711, cpu: 1, len: 84, facts: 1, order: map[uint64]uint32{},
	}
}

// in runs body inside a call of a function; what it returns becomes the
// frame's return value.
func (j *testJourney) in(name string, ret uint64, body func()) {
	j.order[j.skb]++
	f := event.Frame{
		Journey: j.ID, Skb: j.skb, Func: j.k.fn(name), Stack: j.stack, EnterMonoNs: j.now,
		Return: ret, Len: j.len, Mark: j.mark, Facts: j.facts, Ordinal: j.order[j.skb],
		TID: j.tid, CPU: j.cpu,
	}
	j.stack -= 0x40
	j.now += 100
	if body != nil {
		body()
	}
	j.now += 50
	j.stack += 0x40
	f.ExitMonoNs = j.now
	j.Frames = append(j.Frames, f)
}

// onSoftStack runs body as a soft interrupt on top of what runs now.
func (j *testJourney) onSoftStack(body func()) {
	was := j.stack
	j.stack = softStack + 0x3f00
	body()
	j.stack = was
}

func (j *testJourney) addFacts(change func(*event.Facts)) {
	j.facts = uint32(len(j.Facts) + 1)
	f := event.Facts{}
	if n := len(j.Facts); n > 0 {
		f = j.Facts[n-1]
	}
	f.Journey, f.Skb, f.AtMonoNs, f.Number, f.CPU, f.Len = j.ID, j.skb, j.now, j.facts, j.cpu, j.len
	change(&f)
	j.Facts = append(j.Facts, f)
}

func (j *testJourney) end(how event.EndHow, reason uint32, location uint64) {
	j.Ends = append(j.Ends, event.End{
		Journey: j.ID, Skb: j.skb, AtMonoNs: j.now, Location: location, Reason: reason,
		Entered: j.order[j.skb], CPU: j.cpu, How: how,
	})
}

func fixed(s string) (b [16]byte) {
	copy(b[:15], s)
	return b
}

func ipv4(a, b, c, d byte) (ip [16]byte) {
	copy(ip[:], []byte{a, b, c, d})
	return ip
}

func testBuilder(k *fakeKernel) *Builder {
	return NewBuilder(Options{Names: k, Clock: k, Seed: [16]byte{1, 2, 3}})
}
