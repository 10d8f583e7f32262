package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The bounds of extras.h.
const (
	MaxFields     = 16
	MaxFieldSteps = 6
	MaxFieldBytes = 16
)

// Extras say what is reported besides frames, facts and ends. What is not asked
// for costs nothing: the verifier drops its code.
type Extras struct {
	StackDrops  bool // the kernel stack of each drop
	StackFrames bool // the kernel stack at each frame's entry
	Caller      bool // each frame's return address
	Payload     int  // bytes of each packet from its network header on, at most event.MaxExtraBytes; 0: none
	Fields      []FieldPath
}

// FieldPath is the way to one member of an skb, or of what it points to.
type FieldPath struct {
	// Offsets has, but for the last, the offset of a pointer that is followed;
	// the first counts from the sk_buff. At most MaxFieldSteps.
	Offsets []uint32
	Bytes   uint16 // of the member, at most MaxFieldBytes
	At      uint16 // where it goes in event.Fields.Data, a multiple of 8
}

// applyExtras writes the constants that extras.h is verified with.
func applyExtras(spec *ebpf.CollectionSpec, x Extras) error {
	settings := classicExtraSettings{
		StackDrops:   flag(x.StackDrops),
		StackFrames:  flag(x.StackFrames),
		Caller:       flag(x.Caller),
		FieldCount:   uint8(len(x.Fields)),
		PayloadBytes: uint16(x.Payload),
	}
	if x.Payload < 0 || x.Payload > event.MaxExtraBytes || len(x.Fields) > MaxFields {
		return fmt.Errorf("write BPF settings: %d bytes of payload and %d fields are more than %d and %d",
			x.Payload, len(x.Fields), event.MaxExtraBytes, MaxFields)
	}
	for i, f := range x.Fields {
		end := (f.At + f.Bytes + 7) &^ 7
		if n := len(f.Offsets); n == 0 || n > MaxFieldSteps || f.Bytes == 0 || f.Bytes > MaxFieldBytes || end > event.MaxExtraBytes {
			return fmt.Errorf("write BPF settings: field %d has %d steps to %d bytes at %d", i, n, f.Bytes, f.At)
		}
		to := &settings.Fields[i]
		copy(to.Offsets[:], f.Offsets)
		to.Steps, to.Bytes, to.At = uint32(len(f.Offsets)), f.Bytes, f.At
		settings.FieldBytes = max(settings.FieldBytes, end)
	}
	if err := spec.Variables["extras"].Set(settings); err != nil {
		return fmt.Errorf("write BPF settings: %w", err)
	}
	return nil
}
