package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The bounds of one member that can be reported.
const (
	maxFieldArray = 16 // bytes
	maxFieldSteps = 6  // one more than the pointers that are followed
)

// SkbPath is the way from an sk_buff to one member of it, or of what it points to.
type SkbPath struct {
	// Offsets has, but for the last, the offset of a pointer that is followed;
	// the first counts from the sk_buff.
	Offsets []uint32
	Field   event.SkbField
}

// ParseSkbFields splits a list like "skb->hash,skb->sk->sk_mark" into the names of
// the members of each path, without the skb itself. Whether they exist is not
// known yet.
func ParseSkbFields(list string) (paths []string, err error) {
	for path := range strings.SplitSeq(list, ",") {
		path = strings.TrimSpace(path)
		rest, ok := strings.CutPrefix(path, "skb->")
		switch {
		case path == "":
			return nil, errors.New("a field is empty: name one or more as in skb->hash,skb->dev->ifindex")
		case !ok:
			return nil, fmt.Errorf("field %q does not begin with skb->: name it as in skb->hash or skb->dev->ifindex", path)
		case slices.Contains(membersOf(rest), ""):
			return nil, fmt.Errorf("field %q lacks the name of a member", path)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// membersOf splits a path at its arrows and dots.
func membersOf(path string) []string {
	return strings.Split(strings.ReplaceAll(path, "->", "."), ".")
}

// ResolveSkbFields finds the members that paths name in the kernel's types, and
// gives each its place in event.Fields.Data, at multiples of 8.
func ResolveSkbFields(types *btf.Spec, paths []string) ([]SkbPath, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	var skb *btf.Struct
	if err := types.TypeByName("sk_buff", &skb); err != nil {
		return nil, fmt.Errorf("find struct sk_buff in the kernel's BTF: %w", err)
	}
	var resolved []SkbPath
	at := uint16(0)
	for _, path := range paths {
		p, err := resolveSkbField(skb, path)
		if err != nil {
			return nil, err
		}
		p.Field.At = at
		at += (uint16(p.Field.Bytes) + 7) &^ 7
		resolved = append(resolved, p)
	}
	return resolved, nil
}

func resolveSkbField(skb *btf.Struct, path string) (SkbPath, error) {
	p := SkbPath{Field: event.SkbField{Name: path}}
	names := membersOf(strings.TrimPrefix(path, "skb->"))
	var in btf.Type = skb
	bits := btf.Bits(0) // from what the last pointer leads to
	for i, name := range names {
		m, ok := findMember(in, name)
		if !ok {
			return p, fmt.Errorf("field %q: %s has no member %q%s", path, typeName(in), name, suggestion(in, name))
		}
		bits += m.Offset
		if i == len(names)-1 {
			p.Offsets = append(p.Offsets, uint32(bits/8))
			err := describeField(&p, m, uint8(bits%8))
			return p, err
		}
		next := btf.UnderlyingType(m.Type)
		if pointer, ok := next.(*btf.Pointer); ok {
			p.Offsets = append(p.Offsets, uint32(bits/8))
			next, bits = btf.UnderlyingType(pointer.Target), 0
		}
		switch next.(type) {
		case *btf.Struct, *btf.Union:
		default:
			return p, fmt.Errorf("field %q: %q has no members that the kernel's BTF describes, so no %q", path, name, names[i+1])
		}
		in = next
		if len(p.Offsets) >= maxFieldSteps {
			return p, fmt.Errorf("field %q: it follows more than %d pointers", path, maxFieldSteps-1)
		}
	}
	return p, nil
}

// describeField says how the bytes of the member are read; shift is where it
// begins in the first of them.
func describeField(p *SkbPath, m btf.Member, shift uint8) error {
	f := &p.Field
	if m.BitfieldSize > 0 {
		f.Shift, f.Bits = shift, uint8(m.BitfieldSize)
		f.Bytes = uint8((btf.Bits(shift) + m.BitfieldSize + 7) / 8)
		f.Kind = kindOfNumber(btf.UnderlyingType(m.Type))
		if f.Bytes > 8 {
			return fmt.Errorf("field %q: its bits lie across more than 8 bytes", f.Name)
		}
		return nil
	}
	size, err := btf.Sizeof(m.Type)
	if err != nil {
		return fmt.Errorf("field %q: %w", f.Name, err)
	}
	switch t := btf.UnderlyingType(m.Type).(type) {
	case *btf.Int, *btf.Enum, *btf.Pointer:
		f.Kind = kindOfNumber(t)
		if isBigEndian(m.Type) {
			f.Kind = event.FieldBigEndian
		}
		if size > 8 {
			f.Kind = event.FieldBytes
		}
	case *btf.Array:
		element, ok := btf.UnderlyingType(t.Type).(*btf.Int)
		if !ok {
			return fmt.Errorf("field %q: it is an array of no numbers", f.Name)
		}
		f.Kind = event.FieldBytes
		if element.Name == "char" {
			f.Kind = event.FieldText
		}
	default:
		return fmt.Errorf("field %q: it is a %s: name one of its members", f.Name, typeName(t))
	}
	if size < 1 || size > maxFieldArray {
		return fmt.Errorf("field %q: it has %d bytes, and 1 to %d can be reported", f.Name, size, maxFieldArray)
	}
	f.Bytes = uint8(size)
	return nil
}

func kindOfNumber(t btf.Type) event.FieldKind {
	switch t := t.(type) {
	case *btf.Int:
		if t.Encoding == btf.Signed {
			return event.FieldSigned
		}
	case *btf.Enum:
		if t.Signed {
			return event.FieldSigned
		}
	case *btf.Pointer:
		return event.FieldPointer
	}
	return event.FieldUnsigned
}

// isBigEndian looks for one of the network's types among the names of a type.
func isBigEndian(t btf.Type) bool {
	for {
		named, ok := t.(*btf.Typedef)
		if !ok {
			return false
		}
		switch named.Name {
		case "__be16", "__be32", "__be64":
			return true
		}
		t = named.Type
	}
}

// findMember looks for a member in a struct or union and in those without a name
// inside it. Its Offset counts from the start of t.
func findMember(t btf.Type, name string) (btf.Member, bool) {
	for _, m := range members(t) {
		if m.Name == name {
			return m, true
		}
	}
	return btf.Member{}, false
}

// members lists those of a struct or union, and of the unnamed ones inside it.
func members(t btf.Type) []btf.Member {
	var own, all []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		own = t.Members
	case *btf.Union:
		own = t.Members
	}
	for _, m := range own {
		if m.Name != "" {
			all = append(all, m)
			continue
		}
		for _, inner := range members(m.Type) {
			inner.Offset += m.Offset
			all = append(all, inner)
		}
	}
	return all
}

func typeName(t btf.Type) string {
	kind := "type"
	switch t.(type) {
	case *btf.Struct:
		kind = "struct"
	case *btf.Union:
		kind = "union"
	}
	if t.TypeName() == "" {
		return kind + " without a name"
	}
	return kind + " " + t.TypeName()
}

// suggestion names a member that may have been meant, or "". What the kernel's
// sources call sk_family is a macro for a member of the struct inside.
func suggestion(t btf.Type, name string) string {
	if rest, ok := strings.CutPrefix(name, "sk_"); ok {
		if common, ok := findMember(t, "__sk_common"); ok {
			if _, ok := findMember(common.Type, "skc_"+rest); ok {
				return fmt.Sprintf("; did you mean \"__sk_common.skc_%s\"?", rest)
			}
		}
	}
	best, distance := "", len(name)/3+1
	for _, m := range members(t) {
		if d := editDistance(name, m.Name); d <= distance && d < len(name) && (best == "" || d < distance) {
			best, distance = m.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance counts the letters to add, take away or change.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
