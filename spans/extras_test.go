package spans

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// addStack gives the frame of a function a stack of places as symbol+offset.
func (j *testJourney) addStack(name string, kind event.StackKind, places ...uint64) {
	for i := range j.Frames {
		if f := &j.Frames[i]; f.Func == j.k.fn(name) {
			j.stackAt(f.Skb, f.EnterMonoNs, f.Ordinal, kind, places)
			return
		}
	}
	panic("no frame of " + name)
}

func (j *testJourney) stackAt(skb, at uint64, ordinal uint32, kind event.StackKind, places []uint64) {
	j.Stacks = append(j.Stacks, journey.Stack{
		Skb: skb, AtMonoNs: at, Ordinal: ordinal, Kind: kind, From: uint32(len(j.Addresses)), Depth: uint8(len(places)),
	})
	j.Addresses = append(j.Addresses, places...)
}

// attrsOf lists what the spans have under a key, by name.
func attrsOf(t *Trace, k Key) map[string]string {
	found := map[string]string{}
	for i := range t.Spans {
		for _, a := range t.Spans[i].Attrs {
			if a.Key != k {
				continue
			}
			text := a.Str
			if a.Type == TypeList {
				text = strings.Join(t.List(a), " ")
			}
			found[t.Spans[i].Name] = text
		}
	}
	return found
}

// dropOf is tcpDrop with the stack of the drop, as a raw tracepoint sees it.
func dropWith(k *fakeKernel, places ...uint64) *testJourney {
	j := tcpDrop(k)
	j.stackAt(j.Ends[0].Skb, j.Ends[0].AtMonoNs-1, 0, event.StackDrop, places)
	return j
}

func TestStackOfADrop(t *testing.T) {
	k := newFakeKernel()
	at := func(name string, offset uint64) uint64 { return k.fn(name) + offset }
	own := []uint64{at("bpf_prog_1_kfree_skb", 1), at("bpf_trace_run3", 2), at("sk_skb_reason_drop", 0x94)}
	location := tcpDrop(k).Ends[0].Location
	rest := []uint64{location, at("veth:veth_poll", 7), 0xffffffff00000000}
	tests := []struct {
		name    string
		places  []uint64
		callers map[string]uint64
		change  func(*testJourney)
		want    map[string]string
	}{
		{name: "none", want: map[string]string{}},
		{
			name: "from the function that reported it on", places: append(own, rest...),
			want: map[string]string{"nf_hook_slow": "sk_skb_reason_drop+0x94\nnf_hook_slow+0x43\nveth_poll+0x7 [veth]\nunknown function"},
		},
		{
			name: "without the location what traces is known by its name", places: append(own, rest...),
			change: func(j *testJourney) { j.Ends[0].Location++ },
			want:   map[string]string{"nf_hook_slow": "sk_skb_reason_drop+0x94\nnf_hook_slow+0x43\nveth_poll+0x7 [veth]\nunknown function"},
		},
		{
			name:   "beyond a return probe the frames go on",
			places: append(own, location, at("kretprobe_trampoline", 0), 1),
			callers: map[string]uint64{
				"nf_hook_slow": at("ip_local_deliver", 0xac), "ip_local_deliver": at("ip_rcv_finish", 5),
				"ip_rcv": at("ip_rcv_finish", 5), "napi_gro_receive": at("veth:veth_poll", 9),
			},
			want: map[string]string{"nf_hook_slow": "sk_skb_reason_drop+0x94\nnf_hook_slow+0x43\n" +
				"ip_local_deliver+0xac\nip_rcv_finish+0x5\nveth_poll+0x9 [veth]"},
		},
		{
			name: "no frame", places: rest,
			change: func(j *testJourney) { j.Frames = nil },
			want:   map[string]string{"packet tcp": "nf_hook_slow+0x43\nveth_poll+0x7 [veth]\nunknown function"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := tcpDrop(k)
			if tt.places != nil {
				j = dropWith(k, tt.places...)
			}
			for name, caller := range tt.callers {
				j.addStack(name, event.StackCaller, caller)
			}
			if tt.change != nil {
				tt.change(j)
			}
			if d := cmp.Diff(tt.want, attrsOf(testBuilder(k).Build(&j.Journey), KeyCodeStacktrace)); d != "" {
				t.Errorf("stacks (-want +got):\n%s", d)
			}
		})
	}
}

// Of two skbs that die in one frame, its stack is the first one's.
func TestStackOfTwoDrops(t *testing.T) {
	k := newFakeKernel()
	j := dropWith(k, k.fn("first"))
	e := j.Ends[0]
	e.Skb, e.AtMonoNs = skbB, e.AtMonoNs+1
	j.Ends = append(j.Ends, e)
	j.stackAt(e.Skb, e.AtMonoNs, 0, event.StackDrop, []uint64{k.fn("second")})
	j.addStack("nf_hook_slow", event.StackFrame, k.fn("nf_hook_slow"))
	want := map[string]string{"nf_hook_slow": "first+0x0"}
	if d := cmp.Diff(want, attrsOf(testBuilder(k).Build(&j.Journey), KeyCodeStacktrace)); d != "" {
		t.Errorf("stacks (-want +got):\n%s", d)
	}
}

func TestStackOfAFrame(t *testing.T) {
	k := newFakeKernel()
	j := dropWith(k, k.fn("sk_skb_reason_drop")+1, tcpDrop(k).Ends[0].Location)
	j.addStack("ip_rcv", event.StackFrame, k.fn("ip_rcv"), k.fn("napi_gro_receive")+3)
	j.addStack("nf_hook_slow", event.StackFrame, k.fn("nf_hook_slow"))
	want := map[string]string{
		"ip_rcv":       "ip_rcv+0x0\nnapi_gro_receive+0x3",
		"nf_hook_slow": "sk_skb_reason_drop+0x1\nnf_hook_slow+0x43", // the drop's says more
	}
	if d := cmp.Diff(want, attrsOf(testBuilder(k).Build(&j.Journey), KeyCodeStacktrace)); d != "" {
		t.Errorf("stacks (-want +got):\n%s", d)
	}
}

// ip_finish_output is jumped to by ip_output, so both find the same return
// address, of which the second sees the trampoline only.
func TestCallerBehindATailCall(t *testing.T) {
	k := newFakeKernel()
	for _, trampoline := range []string{"kretprobe_trampoline", "__kretprobe_trampoline", "arch_rethook_trampoline", "return_to_handler"} {
		j := newTestJourney(k, 7)
		j.addFacts(echoRequest)
		j.in("ip_output", 0, func() {
			j.stack += 0x40
			j.in("ip_finish_output", 0, func() {
				j.in("veth:veth_xmit", 0, nil)
				j.in("dev_queue_xmit", 0, nil)
			})
			j.stack -= 0x40
		})
		j.end(event.EndConsumed, 0, 0)
		j.addStack("ip_output", event.StackCaller, k.fn("ip_send_skb")+0x1e)
		j.addStack("ip_finish_output", event.StackCaller, k.fn(trampoline))
		j.addStack("veth:veth_xmit", event.StackCaller, k.fn("veth:veth_poll")+4)
		j.addStack("dev_queue_xmit", event.StackCaller, k.fn(trampoline)) // another tracer's
		want := map[string]string{
			"ip_output": "ip_send_skb+0x1e", "ip_finish_output": "ip_send_skb+0x1e", "veth_xmit": "veth_poll+0x4 [veth]",
		}
		if d := cmp.Diff(want, attrsOf(testBuilder(k).Build(&j.Journey), KeyCaller)); d != "" {
			t.Errorf("%s: callers (-want +got):\n%s", trampoline, d)
		}
	}
}

func TestSkbFields(t *testing.T) {
	k := newFakeKernel()
	j := newTestJourney(k, 7)
	j.addFacts(echoRequest)
	j.in("ip_send_skb", 0, func() { j.in("ip_output", 0, func() { j.in("veth:veth_xmit", 0, nil) }) })
	j.end(event.EndConsumed, 0, 0)
	values := func(name string, valid uint16, data ...byte) {
		f := event.Fields{Valid: valid, Bytes: uint16(len(data))}
		copy(f.Data[:], data)
		for i := range j.Frames {
			if j.Frames[i].Func == k.fn(name) {
				f.Skb, f.AtMonoNs, f.Ordinal = j.Frames[i].Skb, j.Frames[i].EnterMonoNs, j.Frames[i].Ordinal
			}
		}
		j.Fields = append(j.Fields, f)
	}
	fields := []event.SkbField{
		{Name: "u", At: 0, Bytes: 2, Kind: event.FieldUnsigned},
		{Name: "s", At: 2, Bytes: 1, Kind: event.FieldSigned},
		{Name: "bits", At: 3, Bytes: 1, Shift: 5, Bits: 2, Kind: event.FieldUnsigned},
		{Name: "be", At: 4, Bytes: 2, Kind: event.FieldBigEndian},
		{Name: "text", At: 6, Bytes: 4, Kind: event.FieldText},
		{Name: "raw", At: 10, Bytes: 2, Kind: event.FieldBytes},
		{Name: "ptr", At: 12, Bytes: 8, Kind: event.FieldPointer},
		{Name: "sbits", At: 3, Bytes: 1, Shift: 0, Bits: 2, Kind: event.FieldSigned},
	}
	first := []byte{0x34, 0x12, 0xff, 0x42, 8, 0, 'l', 'o', 0, 'x', 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0}
	second := append([]byte(nil), first...)
	second[0], second[3] = 0x35, 0x5e // bits keeps its value
	third := append([]byte(nil), second...)
	values("veth:veth_xmit", 0xff&^1, third...) // the first is gone; and they came in another order
	values("ip_send_skb", 0xff, first...)
	values("ip_output", 0xff, second...)
	want := map[string]string{
		"ip_send_skb": "u=4660 s=-1 bits=2 be=0x0800 text=lo raw=abcd ptr=0x0 sbits=-2",
		"ip_output":   "u=4661",
		"veth_xmit":   "u=(null)",
	}
	b := NewBuilder(Options{Names: k, Clock: k, SkbFields: fields})
	if d := cmp.Diff(want, attrsOf(b.Build(&j.Journey), KeySkbFields)); d != "" {
		t.Errorf("fields (-want +got):\n%s", d)
	}
	if got := attrsOf(b.Build(&pingVeth(k).Journey), KeySkbFields); len(got) > 0 {
		t.Errorf("a journey without fields has %v", got)
	}
}

// A pointer leaves the machine hashed, unless asked for.
func TestPointersOfFieldsAreHashed(t *testing.T) {
	k := newFakeKernel()
	for _, raw := range []bool{false, true} {
		j := newTestJourney(k, 7)
		j.in("ip_output", 0, nil)
		f := event.Fields{Skb: skbA, AtMonoNs: j.Frames[0].EnterMonoNs, Ordinal: 1, Valid: 1, Bytes: 8}
		copy(f.Data[:], "\x00\x10\x00\x00\x00\x88\xff\xff")
		j.Fields = append(j.Fields, f)
		fields := []event.SkbField{{Name: "p", Bytes: 8, Kind: event.FieldPointer}}
		b := NewBuilder(Options{Names: k, Clock: k, SkbFields: fields, RawAddresses: raw})
		text := attrsOf(b.Build(&j.Journey), KeySkbFields)["ip_output"]
		if (text == "p=0xffff880000001000") != raw || !strings.HasPrefix(text, "p=0x") {
			t.Errorf("raw %v: %q", raw, text)
		}
	}
}

func TestPayload(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	f := event.Fields{Flags: event.FieldsPayload, Skb: skbA, AtMonoNs: j.Facts[0].AtMonoNs, Bytes: 3}
	copy(f.Data[:], "\x45\x00\xff\xff")
	j.Fields = append(j.Fields, f)
	tr := testBuilder(k).Build(&j.Journey)
	if d := cmp.Diff(map[string]string{tr.Spans[0].Name: "4500ff"}, attrsOf(tr, KeyPayload)); d != "" {
		t.Errorf("payload (-want +got):\n%s", d)
	}
	if len(attrsOf(tr, KeyPayloadSensitive)) != 1 || len(attrsOf(tr, KeySkbFields)) != 0 {
		t.Errorf("sensitive %v, fields %v", attrsOf(tr, KeyPayloadSensitive), attrsOf(tr, KeySkbFields))
	}
}
