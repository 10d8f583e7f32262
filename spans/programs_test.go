package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// programKernel is a kernel whose program 17 has a name; 18 has none.
type programKernel struct{ *fakeKernel }

func (k programKernel) Function(addr uint64) Function {
	if _, id := event.Program(addr); id == 17 {
		return Function{Name: "judge", Module: "bpf"}
	}
	return k.fakeKernel.Function(addr)
}

// judged is a packet on which a program of that hook runs and that is dropped then,
// with that reason of the kernel; after, when given, runs in between.
func judged(hook event.Hook, id uint32, verdict uint64, reason uint32, after string) *Trace {
	k := programKernel{newFakeKernel()}
	k.byName["program"] = event.ProgramFunc(hook, id)
	j := newTestJourney(k.fakeKernel, 21)
	j.addFacts(tcpSegment)
	j.in("__netif_receive_skb_core", 0, func() {
		j.in("program", verdict, nil)
		if after != "" {
			j.in(after, 0, nil)
		}
		j.in("sk_skb_reason_drop", 0, func() { j.end(event.EndDropped, reason, k.fn("__netif_receive_skb_core")+4) })
	})
	return NewBuilder(Options{Names: k, Clock: k}).Build(&j.Journey)
}

// texts are the attributes of a span that have one of these keys.
func texts(tr *Trace, span int, keys ...Key) map[Key]string {
	found := map[Key]string{}
	for _, a := range tr.Spans[span].Attrs {
		for _, k := range keys {
			if a.Key == k {
				found[k] = dumpValue(tr, a)
			}
		}
	}
	return found
}

func TestProgramsAreNamedWithTheirAction(t *testing.T) {
	minus := func(v int32) uint64 { return uint64(uint32(v)) }
	for _, c := range []struct {
		hook    event.Hook
		id      uint32
		verdict uint64
		name    string
		want    map[Key]string
	}{
		{event.HookTC, 17, 2, "tc:judge", map[Key]string{
			KeyProgramID: "17", KeyProgramName: `"judge"`, KeyTCAction: `"TC_ACT_SHOT"`, KeyReturn: "2", KeyStage: `"xdp/tc"`,
		}},
		{event.HookTC, 17, 7, "tc:judge", map[Key]string{
			KeyProgramID: "17", KeyProgramName: `"judge"`, KeyTCAction: `"TC_ACT_REDIRECT"`, KeyReturn: "7", KeyStage: `"xdp/tc"`,
		}},
		{event.HookTC, 17, minus(-1), "tc:judge", map[Key]string{
			KeyProgramID: "17", KeyProgramName: `"judge"`, KeyTCAction: `"TC_ACT_UNSPEC"`, KeyReturn: "-1", KeyStage: `"xdp/tc"`,
		}},
		{event.HookTC, 17, 0x10001, "tc:judge", map[Key]string{ // a class
			KeyProgramID: "17", KeyProgramName: `"judge"`, KeyReturn: "65537", KeyStage: `"xdp/tc"`,
		}},
		{event.HookXDP, 18, 4, "xdp:unknown program", map[Key]string{
			KeyProgramID: "18", KeyXDPAction: `"XDP_REDIRECT"`, KeyReturn: "4", KeyStage: `"xdp/tc"`,
		}},
		{event.HookXDP, 17, 5, "xdp:judge", map[Key]string{
			KeyProgramID: "17", KeyProgramName: `"judge"`, KeyReturn: "5", KeyStage: `"xdp/tc"`,
		}},
	} {
		tr := judged(c.hook, c.id, c.verdict, 0, "")
		got := texts(tr, 2, KeyProgramID, KeyProgramName, KeyTCAction, KeyXDPAction, KeyReturn, KeyStage, KeyModule)
		if tr.Spans[2].Name != c.name {
			t.Errorf("span %q, want %q", tr.Spans[2].Name, c.name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s returning %d (-want +got):\n%s", c.name, int32(c.verdict), diff)
		}
	}
}

func TestVerdictIsTheReasonWhereTheKernelStatesNone(t *testing.T) {
	for _, c := range []struct {
		name    string
		hook    event.Hook
		verdict uint64
		reason  uint32
		after   string
		want    string
	}{
		{"kernel without reasons", event.HookTC, 2, 0, "", "TC_ACT_SHOT"},
		{"not specified", event.HookXDP, 1, 2, "", "XDP_DROP"},
		{"aborted", event.HookXDP, 0, 2, "", "XDP_ABORTED"},
		{"the kernel states one", event.HookTC, 2, 8, "", "NETFILTER_DROP"},
		{"no verdict to drop", event.HookTC, 0, 0, "", "NOT_SPECIFIED"},
		{"passed, and dropped by another", event.HookXDP, 2, 0, "ip_rcv", "NOT_SPECIFIED"},
		{"something else was last", event.HookTC, 2, 0, "ip_rcv", "NOT_SPECIFIED"},
		{"before it had an skb", event.HookXDP, 1, 0xffff0001, "", "XDP_DROP"},
		{"a value that means nothing", event.HookXDP, 99, 0xffff0063, "", "XDP_ABORTED"},
	} {
		if got := judged(c.hook, 17, c.verdict, c.reason, c.after).DropReason; got != c.want {
			t.Errorf("%s: reason %q, want %q", c.name, got, c.want)
		}
	}
}

// A packet that XDP sent back has a buffer and never an skb.
func TestEndsOfBuffers(t *testing.T) {
	for how, want := range map[event.EndHow]string{
		event.EndPassed: "passed", event.EndSent: "sent", event.EndRedirected: "redirected",
	} {
		k := programKernel{newFakeKernel()}
		k.byName["program"] = event.ProgramFunc(event.HookXDP, 17)
		j := newTestJourney(k.fakeKernel, 22)
		j.addFacts(tcpSegment)
		j.in("program", 3, nil)
		j.end(how, 0, 0)
		tr := NewBuilder(Options{Names: k, Clock: k}).Build(&j.Journey)
		if tr.End != want || tr.Spans[0].Name != "packet rx tcp" || tr.Spans[0].Error {
			t.Errorf("%s, end %q, error %v, want packet rx tcp with end %q", tr.Spans[0].Name, tr.End, tr.Spans[0].Error, want)
		}
	}
}
