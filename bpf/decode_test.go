package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// recordCase is a record as the kernel writes it and the event that it is.
type recordCase struct {
	name   string
	record any
	bytes  int // of it that are sent, 0: all
	want   event.Event
}

func recordCases() []recordCase {
	return []recordCase{
		{
			name: "frame",
			record: classicFrameRecord{
				Kind: 1, Flags: 1, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, Func: 6, Stack: 7, EnterMonoNs: 8,
				ExitMonoNs: 9, Ret: 10, Len: 11, Mark: 12, Facts: 13, Ordinal: 14,
			},
			want: event.Event{Kind: event.KindFrame, Frame: event.Frame{
				Flags: event.FrameEntryOnly, CPU: 2, TID: 3, Journey: 4, Skb: 5, Func: 6, Stack: 7, EnterMonoNs: 8,
				ExitMonoNs: 9, Return: 10, Len: 11, Mark: 12, Facts: 13, Ordinal: 14,
			}},
		},
		{
			name:  "facts",
			bytes: factsRecordBytes,
			record: classicFactsRecord{
				Kind: 2, Flags: 15, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Number: 7, Tgid: 8, Netns: 9,
				Ifindex: 10, Mtu: 11, Mark: 12, Len: 13, TcpSeq: 14, TcpAck: 15, SourcePort: 16, DestinationPort: 17,
				IcmpId: 18, IcmpSeq: 19, EtherType: 20, Family: 21, Protocol: 22, TcpFlags: 23, IcmpType: 24,
				IcmpCode: 25, TcpWords: 10, NetworkOffset: 34, NetworkDistance: -35, Source: [16]uint8{26, 15: 27}, Destination: [16]uint8{28, 15: 29},
				Interface: [16]uint8{30, 15: 31}, Comm: [16]uint8{32, 15: 33},
			},
			want: event.Event{Kind: event.KindFacts, Facts: event.Facts{
				Flags: event.FactsStart | event.FactsTuple | event.FactsPorts | event.FactsICMP,
				CPU:   2, TID: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Number: 7, TGID: 8, NetNS: 9,
				Ifindex: 10, MTU: 11, Mark: 12, Len: 13, TCPSeq: 14, TCPAck: 15, SourcePort: 16, DestinationPort: 17,
				ICMPID: 18, ICMPSeq: 19, EtherType: 20, Family: 21, Protocol: 22, TCPFlags: 23, ICMPType: 24,
				ICMPCode: 25, TCPPayload: 13 + 35 - 40, NetworkOffset: 34, NetworkLen: 13 + 35, Source: [16]byte{26, 15: 27}, Destination: [16]byte{28, 15: 29},
				Interface: [16]byte{30, 15: 31}, Comm: [16]byte{32, 15: 33},
			}},
		},
		{
			name:   "facts of a sampled packet",
			record: classicFactsRecord{Kind: 2, Flags: 32, Journey: 4, Comm: [16]uint8{1}, Randomness: 1 << 55},
			want: event.Event{Kind: event.KindFacts, Facts: event.Facts{
				Flags: event.FactsSampled, Journey: 4, Comm: [16]byte{1}, Randomness: 1 << 55,
			}},
		},
		{
			name:   "clone",
			record: classicCloneRecord{Kind: 3, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, Parent: 6, AtMonoNs: 7},
			want: event.Event{Kind: event.KindClone, Clone: event.Clone{
				CPU: 2, Journey: 4, Skb: 5, Parent: 6, AtMonoNs: 7,
			}},
		},
		{
			name: "end",
			record: classicEndRecord{
				Kind: 4, How: 1, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Location: 7, Reason: 8, Entered: 9,
			},
			want: event.Event{Kind: event.KindEnd, End: event.End{
				How: event.EndDropped, CPU: 2, Journey: 4, Skb: 5, AtMonoNs: 6, Location: 7, Reason: 8, Entered: 9,
			}},
		},
		{
			name: "stack",
			record: classicStackRecord{
				Kind: 9, Flags: 1, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Depth: 2, Addresses: [32]uint64{7, 8},
			},
			want: event.Event{Kind: event.KindStack, Stack: event.Stack{
				Kind: event.StackDrop, CPU: 2, TID: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Depth: 2, Addresses: [32]uint64{7, 8},
			}},
		},
		{
			name: "caller",
			record: classicCallerRecord{
				Kind: 9, Flags: 4, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Ordinal: 7, Depth: 1, Address: 8,
			},
			want: event.Event{Kind: event.KindStack, Stack: event.Stack{
				Kind: event.StackCaller, CPU: 2, TID: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Ordinal: 7, Depth: 1,
				Addresses: [32]uint64{8},
			}},
		},
		{
			name: "fields",
			record: classicFieldsRecord{
				Kind: 10, Flags: 1, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Ordinal: 7, Valid: 8, Bytes: 256,
				Data: [256]uint8{9, 255: 10},
			},
			want: event.Event{Kind: event.KindFields, Fields: event.Fields{
				Flags: event.FieldsPayload, CPU: 2, TID: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Ordinal: 7, Valid: 8, Bytes: 256,
				Data: [256]byte{9, 255: 10},
			}},
		},
		{
			name: "link",
			record: classicLinkRecord{
				Kind: 14, What: 2, Cpu: 3, Tid: 4, Journey: 5, Other: 6, Skb: 7, OtherSkb: 8, Func: 9, AtMonoNs: 10,
			},
			want: event.Event{Kind: event.KindLink, Link: event.Link{
				What: event.LinkMerged, CPU: 3, Journey: 5, Other: 6, Skb: 7, OtherSkb: 8, Func: 9, AtMonoNs: 10,
			}},
		},
		{
			name: "owner",
			record: classicOwnerRecord{
				Kind: 13, Flags: 3, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Sock: 7, Cgroup: 8, Tgid: 9,
				Comm: [16]uint8{10, 15: 11},
			},
			want: event.Event{Kind: event.KindOwner, Owner: event.Owner{
				Flags: event.OwnerProcess | event.OwnerKernel, CPU: 2, TID: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Sock: 7,
				Cgroup: 8, TGID: 9, Comm: [16]byte{10, 15: 11},
			}},
		},
		{
			name: "app",
			record: classicAppRecord{
				Kind: 15, What: 3, Cpu: 2, Tid: 4, Journey: 5, Skb: 6, AtMonoNs: 7, WriteMonoNs: 8, Seq: 9, Source: 2, Flags: 1,
				App: classicAppContext{TraceId: [16]uint8{10, 15: 11}, SpanId: [8]uint8{12, 7: 13}},
			},
			want: event.Event{Kind: event.KindApp, App: event.App{
				What: event.AppReads, CPU: 2, TID: 4, Journey: 5, Skb: 6, AtMonoNs: 7, WriteMonoNs: 8, Seq: 9,
				Source:  event.AppHelper,
				Flags:   event.AppUnsampled,
				Context: event.AppContext{TraceID: [16]byte{10, 15: 11}, SpanID: [8]byte{12, 7: 13}},
			}},
		},
		{
			name: "conntrack",
			record: classicConntrackRecord{
				Kind: 11, Info: 3, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Status: 7, Mark: 8, Zone: 9, TcpState: 10,
				Original: classicConntrackTuple{
					Source: [16]uint8{11, 15: 12}, SourcePort: 0x0d00, Family: 10,
					Destination: [16]uint8{14, 15: 15}, DestinationPort: 0x1000, Protocol: 17,
				},
				Reply: classicConntrackTuple{
					Source: [16]uint8{18}, SourcePort: 0x1300, Family: 10,
					Destination: [16]uint8{20}, DestinationPort: 0x1501, Protocol: 17, Direction: 1,
				},
			},
			want: event.Event{Kind: event.KindConntrack, Conntrack: event.Conntrack{
				Info: event.ConntrackEstablishedReply, CPU: 2, Journey: 4, Skb: 5, AtMonoNs: 6, Status: 7, Mark: 8, Zone: 9,
				TCPState: 10, Family: 6, Protocol: 17,
				Original: event.Tuple{Source: [16]byte{11, 15: 12}, SourcePort: 13, Destination: [16]byte{14, 15: 15}, DestinationPort: 16},
				Reply:    event.Tuple{Source: [16]byte{18}, SourcePort: 19, Destination: [16]byte{20}, DestinationPort: 0x115},
			}},
		},
		{
			name:   "conntrack without a tuple",
			record: classicConntrackRecord{Kind: 11, Info: 7, Journey: 4, Skb: 5},
			want: event.Event{Kind: event.KindConntrack, Conntrack: event.Conntrack{
				Info: event.ConntrackUntracked, Journey: 4, Skb: 5,
			}},
		},
		{
			name: "rule",
			record: classicRuleRecord{
				Kind: 12, What: 1, Cpu: 2, Tid: 3, Journey: 4, Skb: 5, AtMonoNs: 6, Handle: 7, Family: 8, Hook: 9,
				Table: [64]uint8{10, 63: 11}, Chain: [64]uint8{12, 63: 13},
			},
			want: event.Event{Kind: event.KindRule, Rule: event.Rule{
				What: event.RuleDrops, CPU: 2, Journey: 4, Skb: 5, AtMonoNs: 6, Handle: 7, Family: 8, Hook: 9,
				Table: [64]byte{10, 63: 11}, Chain: [64]byte{12, 63: 13},
			}},
		},
	}
}

// raw is the record as it is sent.
func (c recordCase) raw(t testing.TB) []byte {
	t.Helper()
	data := raw(t, c.record)
	if c.bytes > 0 {
		data = data[:c.bytes]
	}
	return data
}

func raw(t testing.TB, record any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, record); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecode(t *testing.T) {
	for _, tt := range recordCases() {
		t.Run(tt.name, func(t *testing.T) {
			data := tt.raw(t)
			var got event.Event
			if err := Decode(data, &got); err != nil {
				t.Fatal(err)
			}
			clear(data) // the ring reuses it
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefusesWhatIsNoRecord(t *testing.T) {
	frame := raw(t, classicFrameRecord{Kind: 1})
	tests := []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "empty"},
		{"kind zero", make([]byte, 80), "unknown kind 0"},
		{"kind beyond the last", []byte{17, 0, 0, 0}, "unknown kind 17"},
		{"stack without an address", raw(t, classicStackRecord{Kind: 9, Flags: 1}), "unknown kind 9"},
		{"stack of too many addresses", raw(t, classicStackRecord{Kind: 9, Flags: 1, Depth: 33}), "unknown kind 9"},
		{"stack of no kind", raw(t, classicStackRecord{Kind: 9, Flags: 3, Depth: 1}), "unknown kind 9"},
		{"caller of two addresses", raw(t, classicCallerRecord{Kind: 9, Flags: 4, Depth: 2}), "unknown kind 9"},
		{"caller in a stack's length", raw(t, classicStackRecord{Kind: 9, Flags: 4, Depth: 1}), "kind 9 has 296 bytes, want 48"},
		{"fields without data", raw(t, classicFieldsRecord{Kind: 10}), "unknown kind 10"},
		{"fields of too much data", raw(t, classicFieldsRecord{Kind: 10, Bytes: 257}), "unknown kind 10"},
		{"fields that are cut", raw(t, classicFieldsRecord{Kind: 10, Bytes: 256})[:295], "kind 10 has 295 bytes, want 296"},
		{"extra without a whole head", []byte{10, 0, 0, 0}, "kind 10 has 4 bytes, want 40"},
		{"one byte short", frame[:len(frame)-1], "kind 1 has 79 bytes, want 80"},
		{"sampled facts without randomness", raw(t, classicFactsRecord{Kind: 2, Flags: 32})[:152], "kind 2 has 152 bytes, want 160"},
		{"randomness of facts that are not sampled", raw(t, classicFactsRecord{Kind: 2}), "kind 2 has 160 bytes, want 152"},
		{"one byte more", append(bytes.Clone(frame), 0), "kind 1 has 81 bytes, want 80"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ev := event.Event{Kind: event.KindEnd}
			err := Decode(tt.raw, &ev)
			if !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrRecord with %q", err, tt.want)
			}
			if diff := cmp.Diff(event.Event{Kind: event.KindEnd}, ev); diff != "" {
				t.Errorf("event changed on error (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range recordCases() {
		f.Add(c.raw(f))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ev event.Event
		if err := Decode(data, &ev); err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("error %v does not wrap ErrRecord", err)
			}
			return
		}
		want := recordBytes(ev.Kind)
		switch ev.Kind {
		case event.KindFacts:
			if ev.Facts.Flags&event.FactsSampled != 0 {
				want += factsTailBytes
			}
		case event.KindStack:
			if want = stackRecordBytes; ev.Stack.Kind == event.StackCaller {
				want = callerBytes
			}
		case event.KindFields:
			want = fieldsHeadBytes + int(ev.Fields.Bytes)
		}
		if len(data) != want || data[0] != byte(ev.Kind) {
			t.Errorf("took %d bytes for a record of kind %d", len(data), ev.Kind)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range recordCases() {
		b.Run(c.name, func(b *testing.B) {
			data := c.raw(b)
			var ev event.Event
			if n := testing.AllocsPerRun(100, func() { _ = Decode(data, &ev) }); n != 0 {
				b.Fatalf("%v allocations a record, want none", n)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := Decode(data, &ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
