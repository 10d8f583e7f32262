package spans

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

func TestBuildIsPure(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	b := testBuilder(k)
	want := dump(b.Build(&j.Journey))
	b.Build(&tcpDrop(k).Journey)
	if got := dump(b.Build(&j.Journey)); got != want {
		t.Errorf("second build differs:\n%s", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(j.Frames), func(a, b int) { j.Frames[a], j.Frames[b] = j.Frames[b], j.Frames[a] })
	if got := dump(testBuilder(k).Build(&j.Journey)); got != want {
		t.Errorf("the order in which frames arrived changes the trace:\n%s", got)
	}
}

func TestBuildAllocatesNothing(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	js := []*journey.Journey{&pingVeth(k).Journey, &tcpDrop(k).Journey, &forward(k).Journey, &lost(k).Journey}
	connected := pingVeth(k)
	connected.Conntracks = []event.Conntrack{plainConntrack(6), masqueraded(ctNew, ctConfirmed)}
	js = append(js, &connected.Journey)
	env := NewEnvelope(Resource{}, Scope{Name: "x"})
	var otlp, line []byte
	run := func() {
		for _, j := range js {
			tr := b.Build(j)
			otlp = AppendOTLP(env.Reserve(otlp), tr)
			_, otlp = env.Close(otlp)
			line = env.AppendJSON(line[:0], tr)
		}
	}
	run()
	if n := testing.AllocsPerRun(50, run); n != 0 {
		t.Errorf("%v allocations for five traces, want 0", n)
	}
}

func TestSeedChangesIDsAndHidesAddresses(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	build := func(o Options) *Trace {
		o.Names, o.Clock = k, k
		return NewBuilder(o).Build(&j.Journey)
	}
	a, b := build(Options{}), build(Options{Seed: [16]byte{9}})
	if a.ID == b.ID || a.Spans[1].ID == b.Spans[1].ID {
		t.Error("ids do not depend on the seed")
	}
	skb := func(tr *Trace) uint64 { return uint64(attr(t, tr, 0, KeySkb).Int) }
	if skb(a) == skb(b) || skb(a) == skbA || skb(b) == skbA {
		t.Errorf("addresses %x, %x, are not hashed with the seed", skb(a), skb(b))
	}
	if raw := build(Options{RawAddresses: true}); skb(raw) != skbA {
		t.Errorf("raw address is %x", skb(raw))
	}
}

func attr(t *testing.T, tr *Trace, span int, k Key) Attr {
	t.Helper()
	for _, a := range tr.Spans[span].Attrs {
		if a.Key == k {
			return a
		}
	}
	t.Fatalf("span %d has no %s", span, k)
	return Attr{}
}

func TestSpanIDIsNeverZero(t *testing.T) {
	// The base for which index 3 would give zero.
	const golden = 0x9e3779b97f4a7c15
	three := uint64(3)
	if id := spanID(-(three * golden), 3); id == ([8]byte{}) {
		t.Error("span id is zero")
	}
}

func TestDirection(t *testing.T) {
	for _, c := range []struct {
		want      Direction
		functions []string
	}{
		{DirectionTx, []string{"ip_output", "veth_xmit", "netif_rx"}},
		{DirectionForward, []string{"napi_gro_receive", "igb_xmit_frame"}},
		{DirectionForward, []string{"napi_gro_receive", "dummy_xmit"}},
		{DirectionRx, []string{"skb_push", "netif_rx", "ip_rcv", "tcp_v4_rcv", "tcp_v4_send_reset", "__icmp_send"}},
		{DirectionForward, []string{"netif_rx", "ip_rcv", "ip_output"}},
		{DirectionForward, []string{"ip_rcv", "ip_forward"}},
		{DirectionForward, []string{"ip_forward"}},
		{DirectionUnknown, []string{"skb_push", "kfree_skb"}},
	} {
		k := newFakeKernel()
		j := newTestJourney(k, 1)
		for _, f := range c.functions {
			j.in(f, 0, nil)
		}
		tr := testBuilder(k).Build(&j.Journey)
		if tr.Direction != c.want {
			t.Errorf("%v: %s, want %s", c.functions, tr.Direction, c.want)
		}
	}
}

func TestStageOfFunctions(t *testing.T) {
	for name, want := range map[string]Stage{
		"tcp_v4_rcv": StageTCP, "__tcp_transmit_skb": StageTCP, "udp_send_skb": StageUDP,
		"ip_route_input_noref": StageRouting, "ip_rcv": StageIP, "ip6_route_input": StageRouting,
		"nf_hook_slow": StageNetfilter, "neigh_resolve_output": StageNeighbour, "arp_rcv": StageNeighbour,
		"sch_direct_xmit": StageQdisc, "fq_codel_enqueue": StageQdisc, "__dev_queue_xmit": StageDevice,
		"gve_tx_start_xmit": StageDriver, "start_xmit": StageDriver, "foo_start_xmit": StageDriver,
		"start_xmit_other": StageUnknown, "tcf_classify": StageXDPTC, "netif_receive_skb_list_internal": StageReceive,
		"skb_push": StageUnknown, "icmp_rcv": StageICMP, "sock_queue_rcv_skb_reason": StageSocket,
	} {
		if got, _ := classify(Function{Name: name}); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestReturnValue(t *testing.T) {
	for _, c := range []struct {
		r    Return
		reg  uint64
		want int64
	}{
		{ReturnInt32, 0xdead_0000_ffff_ffff, -1},
		{ReturnInt32, 0xffff_ffff_0000_0001, 1},
		{ReturnInt64, 0xffff_ffff_ffff_ffea, -22},
		{ReturnUint32, 0xdead_0000_ffff_ffff, 0xffff_ffff},
		{ReturnBool, 0xffff_ff00, 0},
		{ReturnBool, 0xff01, 1},
	} {
		if got := c.r.value(c.reg); got != c.want {
			t.Errorf("%d of %x: %d, want %d", c.r, c.reg, got, c.want)
		}
	}
}

func TestProtocolNames(t *testing.T) {
	for _, c := range []struct {
		f    event.Facts
		want string
	}{
		{event.Facts{Flags: event.FactsTuple, Family: 4, Protocol: 1}, "icmp"},
		{event.Facts{Flags: event.FactsTuple, Family: 6, Protocol: 58}, "icmpv6"},
		{event.Facts{Flags: event.FactsTuple, Family: 4, Protocol: 253}, "ip proto 253"},
		{event.Facts{EtherType: 0x0806}, "arp"},
		{event.Facts{EtherType: 0x88cc}, "ethertype 0x88cc"},
		{event.Facts{EtherType: 0x4}, "ethertype 0x0004"},
		{event.Facts{}, ""},
	} {
		if got := protocolName(&c.f); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}

func TestDropOutweighsOtherEnds(t *testing.T) {
	k := newFakeKernel()
	j := tcpDrop(k)
	j.skb = skbB
	j.end(event.EndConsumed, 0, 0)
	j.end(event.EndDropped, 0x99, 0)
	tr := testBuilder(k).Build(&j.Journey)
	if tr.End != "dropped" || tr.DropReason != "NETFILTER_DROP" || !tr.Spans[0].Error {
		t.Errorf("end %q, reason %q, error %v", tr.End, tr.DropReason, tr.Spans[0].Error)
	}
	if n := attr(t, tr, 0, KeyDropCount).Int; n != 2 {
		t.Errorf("%d drops, want 2", n)
	}
}

// A packet that was under way while functions were shed says so, in each of its parts.
func TestShedIsSaid(t *testing.T) {
	for _, shed := range []bool{false, true} {
		k := newFakeKernel()
		j := multicast(k, "__udp4_lib_rcv")
		j.Shed = shed
		parts := 0
		testBuilder(k).Each(&j.Journey, func(tr *Trace) {
			parts++
			said := slices.ContainsFunc(tr.Root().Attrs, func(a Attr) bool { return a == BoolAttr(KeyShed, true) })
			if tr.Shed != shed || said != shed || tr.Incomplete {
				t.Errorf("part %d: shed %v, said %v, incomplete %v; want %v", parts, tr.Shed, said, tr.Incomplete, shed)
			}
		})
		if parts != 2 {
			t.Errorf("%d parts, want 2", parts)
		}
	}
}

func TestFactsOfAnAddressUsedTwice(t *testing.T) {
	k := newFakeKernel()
	j := newTestJourney(k, 1)
	j.addFacts(echoRequest)
	j.in("ip_output", 0, nil)
	j.now++
	j.addFacts(func(f *event.Facts) { f.Interface = fixed("late0") })
	j.Facts[1].Number, j.facts = 1, 1
	j.in("ip_rcv", 0, nil)
	tr := testBuilder(k).Build(&j.Journey)
	if tr.Spans[1].Facts != 0 || tr.Spans[2].Facts != 1 {
		t.Errorf("facts %d and %d, want 0 and 1", tr.Spans[1].Facts, tr.Spans[2].Facts)
	}
}

func BenchmarkBuild(b *testing.B) {
	k := newFakeKernel()
	j := pingVeth(k)
	bld := testBuilder(k)
	b.ReportAllocs()
	for b.Loop() {
		bld.Build(&j.Journey)
	}
	perSpan(b, len(j.Frames)+1)
}

func perSpan(b *testing.B, spans int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(spans), "ns/span")
}

func BenchmarkAppendOTLP(b *testing.B) {
	k := newFakeKernel()
	tr := testBuilder(k).Build(&pingVeth(k).Journey)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendOTLP(buf[:0], tr)
	}
	perSpan(b, len(tr.Spans))
}

func BenchmarkAppendJSON(b *testing.B) {
	k := newFakeKernel()
	tr := testBuilder(k).Build(&pingVeth(k).Journey)
	env := NewEnvelope(Resource{}, Scope{Name: "x"})
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = env.AppendJSON(buf[:0], tr)
	}
	perSpan(b, len(tr.Spans))
}

func TestPortsThatCameLater(t *testing.T) {
	k := newFakeKernel()
	j := newTestJourney(k, 1)
	j.addFacts(tcpSegment)
	j.Facts[0].Flags &^= event.FactsPorts
	j.addFacts(func(f *event.Facts) { f.Source = ipv4(1, 2, 3, 4) }) // another packet's
	j.addFacts(func(f *event.Facts) { tcpSegment(f) })
	tr := testBuilder(k).Build(&j.Journey)
	if tr.First != 2 || attr(t, tr, 0, KeySourcePort).Int != 40000 {
		t.Errorf("first facts are %d", tr.First)
	}
}
