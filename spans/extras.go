package spans

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// extras finds what the user asked for besides of a frame or a drop. Its memory is
// reused.
type extras struct {
	journey *journey.Journey // valid until the end of the Build
	fields  []event.SkbField
	stacks  []int32 // indexes in Journey.Stacks, in the order of compareExtras
	values  []int32 // the same in Journey.Fields
	payload int32   // index in Journey.Fields, -1 without
	last    []lastFields
	stack   string  // of the first drop, "" without
	dropped []int32 // indexes of the spans that have the stack of a drop
}

// lastFields are those that were shown last of an skb.
type lastFields struct {
	skb   uint64
	index int32 // in Journey.Fields
}

// take prepares the extras of a journey.
func (x *extras) take(j *journey.Journey) {
	x.journey, x.payload, x.stack = j, -1, ""
	x.stacks, x.values, x.last, x.dropped = x.stacks[:0], x.values[:0], x.last[:0], x.dropped[:0]
	for i := range j.Stacks {
		x.stacks = append(x.stacks, int32(i))
	}
	slices.SortFunc(x.stacks, func(a, b int32) int {
		s, t := &j.Stacks[a], &j.Stacks[b]
		return cmp.Or(compareExtras(s.AtMonoNs, s.Skb, t.AtMonoNs, t.Skb), cmp.Compare(s.Kind, t.Kind), cmp.Compare(a, b))
	})
	for i := range j.Fields {
		switch {
		case j.Fields[i].Flags&event.FieldsPayload == 0:
			x.values = append(x.values, int32(i))
		case x.payload < 0:
			x.payload = int32(i)
		}
	}
	slices.SortFunc(x.values, func(a, b int32) int {
		f, g := &j.Fields[a], &j.Fields[b]
		return cmp.Or(compareExtras(f.AtMonoNs, f.Skb, g.AtMonoNs, g.Skb), cmp.Compare(a, b))
	})
}

func compareExtras(atA, skbA, atB, skbB uint64) int {
	return cmp.Or(cmp.Compare(atA, atB), cmp.Compare(skbA, skbB))
}

// stackOf returns the addresses of that kind that were taken at the entry of a
// frame, nil without.
func (x *extras) stackOf(f *event.Frame, kind event.StackKind) []uint64 {
	j := x.journey
	i, _ := slices.BinarySearchFunc(x.stacks, f, func(i int32, f *event.Frame) int {
		return compareExtras(j.Stacks[i].AtMonoNs, j.Stacks[i].Skb, f.EnterMonoNs, f.Skb)
	})
	for ; i < len(x.stacks); i++ {
		s := &j.Stacks[x.stacks[i]]
		if s.AtMonoNs != f.EnterMonoNs || s.Skb != f.Skb {
			return nil
		}
		if s.Kind == kind && s.Ordinal == f.Ordinal {
			return j.AddressesOf(s)
		}
	}
	return nil
}

// valuesOf returns the index in Journey.Fields of those that were read at the
// entry of a frame, -1 without.
func (x *extras) valuesOf(f *event.Frame) int32 {
	j := x.journey
	i, _ := slices.BinarySearchFunc(x.values, f, func(i int32, f *event.Frame) int {
		return compareExtras(j.Fields[i].AtMonoNs, j.Fields[i].Skb, f.EnterMonoNs, f.Skb)
	})
	for ; i < len(x.values); i++ {
		v := &j.Fields[x.values[i]]
		if v.AtMonoNs != f.EnterMonoNs || v.Skb != f.Skb {
			break
		}
		if v.Ordinal == f.Ordinal {
			return x.values[i]
		}
	}
	return -1
}

// dropOf returns the addresses of the stack on which an skb was dropped, nil
// without.
func (x *extras) dropOf(e *event.End) []uint64 {
	j := x.journey
	for i := len(x.stacks) - 1; i >= 0; i-- {
		s := &j.Stacks[x.stacks[i]]
		if s.Kind == event.StackDrop && s.Skb == e.Skb && s.AtMonoNs <= e.AtMonoNs {
			return j.AddressesOf(s)
		}
	}
	return nil
}

// childExtras adds what was asked for of a frame.
func (b *Builder) childExtras(s *Span) {
	if len(b.extras.stacks) > 0 {
		if caller := b.caller(s); caller != "" {
			b.add(StringAttr(KeyCaller, caller))
		}
		if stack := b.extras.stackOf(&s.Frame, event.StackFrame); stack != nil {
			b.add(StringAttr(KeyCodeStacktrace, b.stackText(stack, int32(len(b.trace.Spans)-1))))
		}
	}
	if i := b.extras.valuesOf(&s.Frame); i >= 0 {
		b.fieldAttrs(i)
	}
}

// place names a return address as symbol+0xoffset, with its module if it is in
// one, "" when it cannot.
func (c *nameCache) place(addr uint64) string {
	if s, ok := c.places[addr]; ok {
		return s
	}
	s := c.location(addr)
	if module := valid(c.names.Function(addr).Module); s != "" && module != "" {
		s += " [" + module + "]"
	}
	return remember(c.places, addr, s)
}

// rootExtras adds the packet's bytes, and the stack of a drop that no frame has.
func (b *Builder) rootExtras() {
	x := &b.extras
	if b.trace.DropSpan == 0 && x.stack != "" {
		b.add(StringAttr(KeyCodeStacktrace, x.stack))
	}
	if x.payload >= 0 {
		f := &x.journey.Fields[x.payload]
		b.add(StringAttr(KeyPayload, hex.EncodeToString(f.Data[:f.Bytes])))
		b.add(BoolAttr(KeyPayloadSensitive, true))
	}
}

// fieldAttrs adds the members that differ from those that were shown last of the
// same skb.
func (b *Builder) fieldAttrs(index int32) {
	x, t := &b.extras, &b.trace
	now := &x.journey.Fields[index]
	was := x.show(now.Skb, index)
	at := len(t.strings)
	for i := range x.fields {
		f := &x.fields[i]
		if was != nil && sameField(f, i, was, now) {
			continue
		}
		t.strings = append(t.strings, f.Name+"="+b.fieldText(f, i, now))
	}
	if n := len(t.strings) - at; n > 0 {
		b.add(listAttr(KeySkbFields, at, n))
	}
}

// show notes that these are shown now, and returns what was before.
func (x *extras) show(skb uint64, index int32) (was *event.Fields) {
	for i := range x.last {
		if l := &x.last[i]; l.skb == skb {
			was, l.index = &x.journey.Fields[l.index], index
			return was
		}
	}
	x.last = append(x.last, lastFields{skb, index})
	return nil
}

// fieldText writes the value of field i.
func (b *Builder) fieldText(f *event.SkbField, i int, values *event.Fields) string {
	raw, ok := fieldBytes(f, i, values)
	if !ok {
		return "(null)"
	}
	switch f.Kind {
	case event.FieldText:
		text, _, _ := strings.Cut(string(raw), "\x00")
		return valid(text)
	case event.FieldBytes:
		return hex.EncodeToString(raw)
	case event.FieldBigEndian:
		return "0x" + hex.EncodeToString(raw)
	}
	v := number(f, raw)
	switch f.Kind {
	case event.FieldPointer:
		return pointerText(v, b.skbAddress)
	case event.FieldSigned:
		return strconv.FormatInt(signed(f, v), 10)
	default:
		return strconv.FormatUint(v, 10)
	}
}
