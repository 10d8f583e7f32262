package probe

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// SkbArg is one parameter of a function through which it gets an skb.
type SkbArg struct {
	// Register is the 0-based number of the argument register that holds it
	// at entry, or -1 when it is passed on the stack.
	Register int
	// Indirect is set when the parameter is a struct sk_buff **.
	Indirect bool
}

// Candidate is a function whose prototype has at least one skb.
type Candidate struct {
	Name   string
	Module string   // empty for vmlinux
	Skbs   []SkbArg // in the order of the parameters
	Return Return
	// Sock is set when the first parameter is a struct sock *.
	Sock bool
	// Assumed is set when it comes from a built-in table and not from BTF, so
	// that the kernel need not have it at all.
	Assumed bool
}

// ReturnKind says how the return register is to be read.
type ReturnKind uint8

// The kinds of return value.
const (
	ReturnUnknown ReturnKind = iota // nothing is known, or it takes two registers
	ReturnVoid
	ReturnBool
	ReturnSigned
	ReturnUnsigned
	ReturnPointer
	ReturnSkb // a pointer to an skb
)

// Return is the type of a function's return value: only the low Bits of the
// register mean something.
type Return struct {
	Kind ReturnKind
	Bits uint8 // 0 for void and unknown
}

// Scanner finds functions that take an skb. It is not safe for concurrent use.
type Scanner struct {
	vmlinux *kernel.RawBTF
	abi     abi
	// depths remembers skbDepth + 1 by type ID, 0 where it is not known yet:
	// most parameters have one of a few thousand types.
	depths []uint8
}

// ScanBTF returns the functions that take an skb: those of vmlinux when module
// is nil, else those of the module whose BTF continues vmlinux. Argument
// registers are those of the running architecture. Errors wrap
// kernel.ErrBadBTF.
func ScanBTF(vmlinux, module []byte) ([]Candidate, error) {
	base, err := kernel.ParseRawBTF(vmlinux, nil)
	if err != nil {
		return nil, fmt.Errorf("scan vmlinux: %w", err)
	}
	s, err := NewScanner(base, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	if module == nil {
		return s.Scan("", base), nil
	}
	split, err := kernel.ParseRawBTF(module, base)
	if err != nil {
		return nil, fmt.Errorf("scan module: %w", err)
	}
	return s.Scan("", split), nil
}

// NewScanner prepares scans of vmlinux and of modules that continue it.
// arch is a GOARCH; only amd64 and arm64 are known.
func NewScanner(vmlinux *kernel.RawBTF, arch string) (*Scanner, error) {
	a, err := abiOf(arch)
	if err != nil {
		return nil, err
	}
	return &Scanner{vmlinux: vmlinux, abi: a}, nil
}

// Scan returns the functions that b itself holds (not those of the BTF it
// continues), in the order of their IDs, as belonging to module.
func (s *Scanner) Scan(module string, b *kernel.RawBTF) []Candidate {
	// What was remembered of a module's types holds for that module only.
	s.depths = slices.Grow(s.depths[:min(len(s.depths), int(s.vmlinux.NextID()))], int(b.NextID()))
	known := len(s.depths)
	s.depths = s.depths[:b.NextID()]
	clear(s.depths[known:])
	var found []Candidate
	for fn := range b.OfKind(kernel.BTFFunc) {
		proto, ok := b.Type(fn.SizeOrRef)
		if !ok || proto.Kind != kernel.BTFFuncProto {
			continue
		}
		skbs := s.skbArgs(b, proto)
		if skbs == nil {
			continue
		}
		found = append(found, Candidate{
			Name:   string(b.Name(fn.NameOff)),
			Module: module,
			Skbs:   skbs,
			Return: returnOf(b, proto.SizeOrRef),
			Sock:   firstIsSock(b, proto),
		})
	}
	return found
}

// skbArgs returns the parameters that lead to an skb, nil when none does.
func (s *Scanner) skbArgs(b *kernel.RawBTF, proto kernel.BTFType) []SkbArg {
	depths := 0
	for i := range proto.Len {
		_, id := proto.Param(i)
		depths |= s.skbDepth(b, id)
	}
	if depths == 0 {
		return nil // the common case, without placing any argument
	}
	var skbs []SkbArg
	place := placement{abi: s.abi}
	for i := range proto.Len {
		_, id := proto.Param(i)
		register := place.next(b, id)
		if depth := s.skbDepth(b, id); depth != 0 {
			skbs = append(skbs, SkbArg{Register: register, Indirect: depth == 2})
		}
	}
	return skbs
}

// skbDepth is the function of that name with a memory.
func (s *Scanner) skbDepth(b *kernel.RawBTF, id uint32) int {
	if uint64(id) >= uint64(len(s.depths)) {
		return 0 // damaged BTF
	}
	if s.depths[id] == 0 {
		s.depths[id] = uint8(skbDepth(b, id)) + 1
	}
	return int(s.depths[id]) - 1
}

// skbDepth returns how many pointers lead from a value of the type to a
// struct sk_buff: 1 or 2, or 0 when it is something else.
func skbDepth(b *kernel.RawBTF, id uint32) int {
	for depth := range 3 {
		t, ok := b.Resolve(id)
		if !ok {
			return 0
		}
		switch t.Kind {
		case kernel.BTFPtr:
			id = t.SizeOrRef
		case kernel.BTFStruct, kernel.BTFFwd:
			if b.NameIs(t.NameOff, "sk_buff") {
				return depth
			}
			return 0
		default:
			return 0
		}
	}
	return 0
}

// firstIsSock says that the first parameter is a pointer to a struct sock.
func firstIsSock(b *kernel.RawBTF, proto kernel.BTFType) bool {
	_, id := proto.Param(0)
	pointer, ok := b.Resolve(id)
	if !ok || pointer.Kind != kernel.BTFPtr {
		return false
	}
	target, ok := b.Resolve(pointer.SizeOrRef)
	return ok && (target.Kind == kernel.BTFStruct || target.Kind == kernel.BTFFwd) && b.NameIs(target.NameOff, "sock")
}

func returnOf(b *kernel.RawBTF, id uint32) Return {
	t, ok := b.Resolve(id)
	if !ok {
		return Return{}
	}
	switch t.Kind {
	case kernel.BTFVoid:
		return Return{Kind: ReturnVoid}
	case kernel.BTFPtr:
		if skbDepth(b, id) == 1 {
			return Return{Kind: ReturnSkb, Bits: 64}
		}
		return Return{Kind: ReturnPointer, Bits: 64}
	case kernel.BTFInt, kernel.BTFEnum, kernel.BTFEnum64:
		return scalarReturn(t)
	default:
		return Return{}
	}
}

func scalarReturn(t kernel.BTFType) Return {
	if t.SizeOrRef == 0 || t.SizeOrRef > 8 {
		return Return{}
	}
	bits := uint8(8 * t.SizeOrRef)
	_, signed, boolean := t.IntEncoding()
	switch {
	case boolean:
		return Return{Kind: ReturnBool, Bits: bits}
	case signed || t.Kind != kernel.BTFInt && t.KindFlag:
		return Return{Kind: ReturnSigned, Bits: bits}
	default:
		return Return{Kind: ReturnUnsigned, Bits: bits}
	}
}
