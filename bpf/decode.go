package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Sizes of the records in bytes; layout_test.go holds them against the BTF of
// the object files.
const (
	frameRecordBytes = 80
	factsRecordBytes = 152
	factsTailBytes   = 8 // more of them where they are of a sampled packet
	cloneRecordBytes = 40
	endRecordBytes   = 48
	ownerRecordBytes = 72
	blockRecordBytes = 160
	linkRecordBytes  = 56
	appRecordBytes   = 72

	conntrackRecordBytes = 128
	ruleRecordBytes      = 176
)

// ErrRecord is wrapped by every error of Decode: bytes that are no record.
var ErrRecord = errors.New("decode record")

// Decode reads one record of the ring buffer into ev. It checks the kind and
// the exact length, and copies: ev keeps nothing of raw. Members of ev other
// than the one that Kind names keep what they held.
func Decode(raw []byte, ev *event.Event) error {
	if len(raw) == 0 {
		return fmt.Errorf("%w: it is empty", ErrRecord)
	}
	kind := event.Kind(raw[0])
	want := recordBytes(kind)
	if kind == event.KindFacts && len(raw) > 1 && event.FactsFlags(raw[1])&event.FactsSampled != 0 {
		want += factsTailBytes
	}
	if kind == event.KindStack || kind == event.KindFields || kind == event.KindPayload {
		want = extraRecordBytes(raw)
	}
	if want == 0 {
		return fmt.Errorf("%w: unknown kind %d (%d bytes)", ErrRecord, raw[0], len(raw))
	}
	if len(raw) != want {
		return fmt.Errorf("%w: kind %d has %d bytes, want %d", ErrRecord, raw[0], len(raw), want)
	}
	ev.Kind = kind
	switch kind {
	case event.KindFrame:
		decodeFrame((*[frameRecordBytes]byte)(raw), &ev.Frame)
	case event.KindFacts:
		decodeFacts((*[factsRecordBytes]byte)(raw), &ev.Facts)
		if len(raw) > factsRecordBytes {
			ev.Facts.Randomness = u64(raw[factsRecordBytes:])
		}
	case event.KindClone:
		decodeClone((*[cloneRecordBytes]byte)(raw), &ev.Clone)
	case event.KindEnd:
		decodeEnd((*[endRecordBytes]byte)(raw), &ev.End)
	case event.KindStack:
		decodeStack(raw, &ev.Stack)
	case event.KindFields:
		decodeFields(raw, &ev.Fields)
	case event.KindLink:
		decodeLink((*[linkRecordBytes]byte)(raw), &ev.Link)
	case event.KindOwner:
		decodeOwner((*[ownerRecordBytes]byte)(raw), &ev.Owner)
	case event.KindApp:
		decodeApp((*[appRecordBytes]byte)(raw), &ev.App)
	case event.KindPayload:
		decodePayload(raw, &ev.Payload)
	case event.KindConntrack:
		decodeConntrack((*[conntrackRecordBytes]byte)(raw), &ev.Conntrack)
	case event.KindRule:
		decodeRule((*[ruleRecordBytes]byte)(raw), &ev.Rule)
	default: // recordBytes knows it
		decodeBlock((*[blockRecordBytes]byte)(raw), &ev.Block)
	}
	return nil
}

// recordBytes is the size of a record of this kind, 0 for an unknown one.
func recordBytes(kind event.Kind) int {
	switch kind {
	case event.KindFrame:
		return frameRecordBytes
	case event.KindFacts:
		return factsRecordBytes
	case event.KindClone:
		return cloneRecordBytes
	case event.KindEnd:
		return endRecordBytes
	case event.KindOwner:
		return ownerRecordBytes
	case event.KindRequest, event.KindBio, event.KindMerge, event.KindRequeue:
		return blockRecordBytes
	case event.KindLink:
		return linkRecordBytes
	case event.KindApp:
		return appRecordBytes
	case event.KindConntrack:
		return conntrackRecordBytes
	case event.KindRule:
		return ruleRecordBytes
	}
	return 0
}

func decodeFrame(raw *[frameRecordBytes]byte, frame *event.Frame) {
	*frame = event.Frame{
		Flags:       event.FrameFlags(raw[1]),
		CPU:         u16(raw[2:]),
		TID:         u32(raw[4:]),
		Journey:     u64(raw[8:]),
		Skb:         u64(raw[16:]),
		Func:        u64(raw[24:]),
		Stack:       u64(raw[32:]),
		EnterMonoNs: u64(raw[40:]),
		ExitMonoNs:  u64(raw[48:]),
		Return:      u64(raw[56:]),
		Len:         u32(raw[64:]),
		Mark:        u32(raw[68:]),
		Facts:       u32(raw[72:]),
		Ordinal:     u32(raw[76:]),
	}
}

func decodeFacts(raw *[factsRecordBytes]byte, facts *event.Facts) {
	*facts = event.Facts{
		Flags:           event.FactsFlags(raw[1]),
		CPU:             u16(raw[2:]),
		TID:             u32(raw[4:]),
		Journey:         u64(raw[8:]),
		Skb:             u64(raw[16:]),
		AtMonoNs:        u64(raw[24:]),
		Number:          u32(raw[32:]),
		TGID:            u32(raw[36:]),
		NetNS:           u32(raw[40:]),
		Ifindex:         u32(raw[44:]),
		MTU:             u32(raw[48:]),
		Mark:            u32(raw[52:]),
		Len:             u32(raw[56:]),
		TCPSeq:          u32(raw[60:]),
		TCPAck:          u32(raw[64:]),
		SourcePort:      u16(raw[68:]),
		DestinationPort: u16(raw[70:]),
		ICMPID:          u16(raw[72:]),
		ICMPSeq:         u16(raw[74:]),
		EtherType:       u16(raw[76:]),
		Family:          raw[78],
		Protocol:        raw[79],
		TCPFlags:        raw[80],
		ICMPType:        raw[81],
		ICMPCode:        raw[82],
		NetworkOffset:   u16(raw[84:]),
		NetworkLen:      u32(raw[56:]) - uint32(int16(u16(raw[86:]))),
		Source:          [16]byte(raw[88:104]),
		Destination:     [16]byte(raw[104:120]),
		Interface:       [16]byte(raw[120:136]),
		Comm:            [16]byte(raw[136:152]),
	}
	if words := uint32(raw[83]); words != 0 {
		facts.TCPPayload = facts.NetworkLen - min(4*words, facts.NetworkLen)
	}
}

func decodeClone(raw *[cloneRecordBytes]byte, clone *event.Clone) {
	*clone = event.Clone{
		CPU:      u16(raw[2:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		Parent:   u64(raw[24:]),
		AtMonoNs: u64(raw[32:]),
	}
}

func decodeEnd(raw *[endRecordBytes]byte, end *event.End) {
	*end = event.End{
		How:      event.EndHow(raw[1]),
		CPU:      u16(raw[2:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Location: u64(raw[32:]),
		Reason:   u32(raw[40:]),
		Entered:  u32(raw[44:]),
	}
}

func decodeLink(raw *[linkRecordBytes]byte, link *event.Link) {
	*link = event.Link{
		What:     event.LinkWhat(raw[1]),
		CPU:      u16(raw[2:]),
		Journey:  u64(raw[8:]),
		Other:    u64(raw[16:]),
		Skb:      u64(raw[24:]),
		OtherSkb: u64(raw[32:]),
		Func:     u64(raw[40:]),
		AtMonoNs: u64(raw[48:]),
	}
}

func decodeOwner(raw *[ownerRecordBytes]byte, owner *event.Owner) {
	*owner = event.Owner{
		Flags:    event.OwnerFlags(raw[1]),
		CPU:      u16(raw[2:]),
		TID:      u32(raw[4:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Sock:     u64(raw[32:]),
		Cgroup:   u64(raw[40:]),
		TGID:     u32(raw[48:]),
		Comm:     [16]byte(raw[56:72]),
	}
}

func decodeApp(raw *[appRecordBytes]byte, app *event.App) {
	*app = event.App{
		What:        event.AppWhat(raw[1]),
		CPU:         u16(raw[2:]),
		TID:         u32(raw[4:]),
		Journey:     u64(raw[8:]),
		Skb:         u64(raw[16:]),
		AtMonoNs:    u64(raw[24:]),
		WriteMonoNs: u64(raw[32:]),
		Seq:         u32(raw[40:]),
		Source:      event.AppSource(raw[44]),
		Flags:       event.AppFlags(raw[45]),
		Context:     event.AppContext{TraceID: [16]byte(raw[48:64]), SpanID: [8]byte(raw[64:72])},
	}
}

// The records are in the byte order of the machine that wrote them, and every
// target that we build for is little-endian.
func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
