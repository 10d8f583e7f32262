package export

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// testKernel names what the journeys of these tests refer to: functions are
// numbered in the order in which they are asked for.
type testKernel struct {
	addrs     map[string]uint64
	functions map[uint64]spans.Function
}

func newTestKernel() *testKernel {
	return &testKernel{addrs: make(map[string]uint64), functions: make(map[uint64]spans.Function)}
}

func (k *testKernel) addr(name, module string) uint64 {
	if _, known := k.addrs[name]; !known {
		k.addrs[name] = 0xffffffff81000000 + 0x1000*uint64(len(k.addrs))
		k.functions[k.addrs[name]] = spans.Function{Name: name, Module: module}
	}
	return k.addrs[name]
}

func (k *testKernel) Function(addr uint64) spans.Function { return k.functions[addr] }
func (k *testKernel) Location(uint64) string              { return "tcp_v4_rcv+0x1f4" }
func (k *testKernel) DropReason(v uint32) string          { return map[uint32]string{3: "NO_SOCKET"}[v] }

func (k *testKernel) NetNS(v uint32, _ uint64) string {
	return map[uint32]string{4026532001: "blue"}[v]
}

// OffsetNs puts CLOCK_MONOTONIC 1,000,000 at 2026-11-23 10:00:00 UTC.
func (k *testKernel) OffsetNs(uint64) int64 { return 1795428000_000000000 - 1_000_000 }

// packet builds a journey. Its frames are given as they are entered; times are
// nanoseconds from its start.
type packet struct {
	k     *testKernel
	j     journey.Journey
	facts map[uint64]uint32 // number of the latest, by skb
	tid   uint32
	cpu   uint16
}

const packetStartNs = 1_000_000

func newPacket(k *testKernel, id uint64) *packet {
	return &packet{k: k, j: journey.Journey{ID: id}, facts: make(map[uint64]uint32), tid: 812}
}

func (p *packet) fact(skb uint64, at uint64, f event.Facts) {
	p.facts[skb]++
	f.Journey, f.Skb, f.AtMonoNs, f.Number, f.CPU = p.j.ID, skb, packetStartNs+at, p.facts[skb], p.cpu
	p.j.Facts = append(p.j.Facts, f)
}

// call adds a frame; depth is its place on the stack.
func (p *packet) call(name, module string, skb uint64, depth int, enter, exit uint64, change func(*event.Frame)) {
	f := event.Frame{
		Journey: p.j.ID, Skb: skb, Func: p.k.addr(name, module),
		Stack:       0xffffc90000000000 + uint64(p.cpu)<<20 + 0x8000 - 0x80*uint64(depth),
		EnterMonoNs: packetStartNs + enter, ExitMonoNs: packetStartNs + exit,
		Len: 84, Facts: p.facts[skb], TID: p.tid, CPU: p.cpu,
	}
	if change != nil {
		change(&f)
	}
	p.j.Frames = append(p.j.Frames, f)
}

func (p *packet) end(skb, at uint64, how event.EndHow, reason uint32) {
	e := event.End{Journey: p.j.ID, Skb: skb, AtMonoNs: packetStartNs + at, How: how, Reason: reason, CPU: p.cpu}
	if how == event.EndDropped {
		e.Location = 0xffffffff81aa0000
	}
	p.j.Ends = append(p.j.Ends, e)
}

func address16(s string) (family uint8, b [16]byte) {
	a := netip.MustParseAddr(s)
	copy(b[:], a.AsSlice())
	if a.Is4() {
		return 4, b
	}
	return 6, b
}

func chars(s string) (b [16]byte) {
	copy(b[:15], s)
	return b
}

func baseFacts(from, to string, protocol uint8) event.Facts {
	f := event.Facts{
		TGID: 812, TID: 812, NetNS: 4026531840, MTU: 1500, Len: 84, EtherType: 0x0800,
		Protocol: protocol, Flags: event.FactsTuple, Comm: chars("ping"),
	}
	f.Family, f.Source = address16(from)
	_, f.Destination = address16(to)
	if f.Family == 6 {
		f.EtherType = 0x86dd
	}
	return f
}

// pingJourney goes through a veth pair into another namespace.
func pingJourney(k *testKernel) *journey.Journey {
	p := newPacket(k, 7)
	const skb = 0xffff888100a0b000
	f := baseFacts("10.0.0.1", "10.0.0.2", 1)
	f.Flags |= event.FactsStart | event.FactsICMP
	f.ICMPType, f.ICMPID, f.ICMPSeq = 8, 12, 1
	p.fact(skb, 0, f)
	p.call("ip_send_skb", "", skb, 0, 0, 42_120, nil)
	p.call("__ip_local_out", "", skb, 1, 150, 2_400, func(f *event.Frame) { f.Return = 1 })
	p.call("nf_hook_slow", "nf_tables", skb, 2, 300, 1_900, func(f *event.Frame) { f.Return = 1 })
	p.call("ip_output", "", skb, 1, 2_600, 42_000, nil)
	f.Ifindex, f.Interface = 2, chars("veth0")
	f.Flags &^= event.FactsStart
	p.fact(skb, 2_700, f)
	p.call("dev_hard_start_xmit", "", skb, 2, 3_000, 30_000, func(f *event.Frame) { f.Len = 98 })
	p.call("veth_xmit", "veth", skb, 3, 3_500, 29_000, func(f *event.Frame) { f.Len = 98 })
	f.Ifindex, f.Interface, f.NetNS = 3, chars("veth1"), 4026532001
	p.fact(skb, 31_000, f)
	p.tid, p.cpu = 0, 1
	p.call("ip_rcv", "", skb, 0, 60_000, 1_061_000, func(f *event.Frame) { f.Mark = 0x10 })
	p.call("icmp_rcv", "", skb, 1, 61_000, 1_060_000, func(f *event.Frame) { f.Len, f.Mark, f.Return = 64, 0x10, 0 })
	p.end(skb, 1_059_000, event.EndConsumed, 0)
	return &p.j
}

// dropJourney is a SYN to a closed port, its frame records not all there.
func dropJourney(k *testKernel) *journey.Journey {
	p := newPacket(k, 8)
	const skb = 0xffff888100a0c000
	f := baseFacts("2001:db8::1", "2001:db8::2", 6)
	f.Flags |= event.FactsStart | event.FactsPorts
	f.SourcePort, f.DestinationPort, f.TCPFlags, f.TCPSeq = 43210, 443, 2, 1234567890
	f.Ifindex, f.Interface, f.TGID, f.TID = 2, chars("eth0"), 0, 0
	p.fact(skb, 0, f)
	p.tid = 0
	p.call("netif_receive_skb", "", skb, 0, 0, 9_000, nil)
	p.call("tcp_v6_rcv", "", skb, 1, 1_000, 8_000, nil)
	p.end(skb, 5_000, event.EndDropped, 3)
	p.j.LostFrames = 2
	return &p.j
}

// unfinishedJourney is a datagram and its clone, reported at entry, neither of
// which was seen to end.
func unfinishedJourney(k *testKernel) *journey.Journey {
	p := newPacket(k, 9)
	const skb, copied = 0xffff888100a0d000, 0xffff888100a0d100
	f := baseFacts("192.168.1.10", "192.168.1.255", 17)
	f.Flags |= event.FactsStart | event.FactsPorts
	f.SourcePort, f.DestinationPort = 5353, 5353
	p.fact(skb, 0, f)
	entryOnly := func(f *event.Frame) { f.Flags = event.FrameEntryOnly }
	p.call("ip_mc_output", "", skb, 0, 0, 0, entryOnly)
	p.j.Clones = append(p.j.Clones, event.Clone{Journey: 9, Skb: copied, Parent: skb, AtMonoNs: packetStartNs + 500})
	p.fact(copied, 600, f)
	p.call("ip_mc_finish_output", "", copied, 1, 700, 700, entryOnly)
	p.j.Unfinished = true
	return &p.j
}

// deepJourney has more frames in one another than a terminal has columns.
func deepJourney(k *testKernel) *journey.Journey {
	p := newPacket(k, 10)
	const skb, depth = 0xffff888100a0e000, 30
	f := baseFacts("10.0.0.1", "10.0.0.2", 17)
	f.Flags |= event.FactsStart | event.FactsPorts
	p.fact(skb, 0, f)
	for d := range depth {
		p.call("function_"+strconv.Itoa(d), "", skb, d, uint64(d), uint64(100-d), nil)
	}
	p.call("another_function_behind_them_with_a_long_name", "", skb, 1, 80, 90, nil)
	p.end(skb, 101, event.EndConsumed, 0)
	return &p.j
}

// hostileJourney has names that try to write elsewhere on the terminal.
func hostileJourney(k *testKernel) *journey.Journey {
	p := newPacket(k, 11)
	const skb = 0xffff888100a0f000
	f := event.Facts{
		Flags: event.FactsStart, TGID: 812, TID: 812, EtherType: 0x0806, Ifindex: 9, Len: 42, MTU: 1500,
		Interface: chars("a\x1b[2J\"\\é"), Comm: chars("x\n\x00\xff"),
	}
	p.fact(skb, 0, f)
	p.call("arp_rcv", "", skb, 0, 0, 10, func(f *event.Frame) { f.Len = 42 })
	p.end(skb, 5, event.EndFreed, 0)
	p.j.Incomplete = true
	return &p.j
}

// testTraces gives the text of all journeys.
func testTraces(t *testing.T, o ConsoleOptions) string {
	t.Helper()
	k := newTestKernel()
	b := spans.NewBuilder(spans.Options{Names: k, Clock: k, Seed: [16]byte{1}})
	var out collector
	c := NewConsole(&out, o)
	for _, j := range []*journey.Journey{
		pingJourney(k), dropJourney(k), unfinishedJourney(k), deepJourney(k), hostileJourney(k),
	} {
		c.Export(b.Build(j))
	}
	s := c.Stats()
	if s.Traces != 5 || s.Batches != 5 || s.Spans != s.Exported || s.Lost() != 0 || s.Bytes != uint64(len(out)) {
		t.Errorf("stats: %+v", s)
	}
	return string(out)
}

// collector keeps what is written.
type collector []byte

func (c *collector) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}
