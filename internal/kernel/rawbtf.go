package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
)

// BTFKind is the kind of a BTF type, numbered as in
// https://docs.kernel.org/bpf/btf.html#type-encoding.
type BTFKind uint8

// The kinds of BTF type. BTFVoid is the type with ID 0.
const (
	BTFVoid      BTFKind = 0
	BTFInt       BTFKind = 1
	BTFPtr       BTFKind = 2
	BTFArray     BTFKind = 3
	BTFStruct    BTFKind = 4
	BTFUnion     BTFKind = 5
	BTFEnum      BTFKind = 6
	BTFFwd       BTFKind = 7
	BTFTypedef   BTFKind = 8
	BTFVolatile  BTFKind = 9
	BTFConst     BTFKind = 10
	BTFRestrict  BTFKind = 11
	BTFFunc      BTFKind = 12
	BTFFuncProto BTFKind = 13
	BTFVar       BTFKind = 14
	BTFDatasec   BTFKind = 15
	BTFFloat     BTFKind = 16
	BTFDeclTag   BTFKind = 17
	BTFTypeTag   BTFKind = 18
	BTFEnum64    BTFKind = 19
)

const (
	btfMagic      = 0xEB9F
	btfHeaderLen  = 24
	btfTypeLen    = 12
	btfMaxTypes   = 1 << 22 // vmlinux has some 150,000
	btfChainLimit = 64      // typedefs and qualifiers that may follow one another
)

// ErrBadBTF is wrapped by every error about bytes that are no BTF of this
// machine's byte order.
var ErrBadBTF = errors.New("damaged or foreign BTF")

// RawBTF reads BTF in place: opening it costs one pass over the bytes and four
// bytes per type. It is for questions that touch few types; building Go values
// of a whole vmlinux takes a general decoder far longer. It keeps the bytes,
// which must not change. Methods may be called concurrently.
type RawBTF struct {
	base    *RawBTF // nil, or what this split BTF continues
	types   []byte
	strings []byte
	offsets []uint32 // of each own type in types
	firstID uint32   // ID of the first own type
	strBase uint32   // offset of the first own string
}

// BTFType is one type, as a view of the BTF it came from.
type BTFType struct {
	ID       uint32
	Kind     BTFKind
	KindFlag bool
	Len      int    // number of members, parameters or enumerators
	NameOff  uint32 // for RawBTF.Name
	// SizeOrRef is the size in bytes (int, struct, union, enum, float,
	// datasec) or the ID of the type that this one refers to (the others).
	SizeOrRef uint32
	extra     []byte
}

// BTFDir is where the running kernel describes its types.
const BTFDir = "/sys/kernel/btf"

// ModulesWithBTF returns the names of the loaded modules that describe their
// types in a directory laid out as BTFDir: none before Linux 5.11.
func ModulesWithBTF(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list modules with types: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "vmlinux" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// ReadBTF opens the BTF of vmlinux, or of a module on top of base, from a
// directory laid out as /sys/kernel/btf.
func ReadBTF(dir, name string, base *RawBTF) (*RawBTF, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("read kernel types: %w", err)
	}
	b, err := ParseRawBTF(data, base)
	if err != nil {
		return nil, fmt.Errorf("read kernel types of %s: %w", name, err)
	}
	return b, nil
}

// ParseRawBTF opens BTF bytes. base is nil, or what they continue: the BTF of
// a module continues that of vmlinux. Errors wrap ErrBadBTF.
func ParseRawBTF(data []byte, base *RawBTF) (*RawBTF, error) {
	types, strings, err := btfSections(data)
	if err != nil {
		return nil, err
	}
	b := &RawBTF{base: base, types: types, strings: strings, firstID: 1}
	if base != nil {
		b.firstID = base.NextID()
		b.strBase = base.strBase + uint32(len(base.strings))
	}
	if err := b.index(); err != nil {
		return nil, err
	}
	return b, nil
}

// btfSections checks the header and returns the type and string sections.
func btfSections(data []byte) (types, strings []byte, err error) {
	if len(data) < btfHeaderLen {
		return nil, nil, fmt.Errorf("%w: %d bytes hold no header", ErrBadBTF, len(data))
	}
	le := binary.LittleEndian
	if magic := le.Uint16(data); magic != btfMagic {
		return nil, nil, fmt.Errorf("%w: magic %#04x", ErrBadBTF, magic)
	}
	if version := data[2]; version != 1 {
		return nil, nil, fmt.Errorf("%w: version %d", ErrBadBTF, version)
	}
	headerLen := uint64(le.Uint32(data[4:]))
	section := func(at int, what string) ([]byte, error) {
		start := headerLen + uint64(le.Uint32(data[at:]))
		end := start + uint64(le.Uint32(data[at+4:]))
		if headerLen < btfHeaderLen || end > uint64(len(data)) {
			return nil, fmt.Errorf("%w: %s section ends at %d of %d bytes", ErrBadBTF, what, end, len(data))
		}
		return data[start:end:end], nil
	}
	if types, err = section(8, "type"); err != nil {
		return nil, nil, err
	}
	if strings, err = section(16, "string"); err != nil {
		return nil, nil, err
	}
	if n := len(strings); n > 0 && strings[n-1] != 0 {
		return nil, nil, fmt.Errorf("%w: string section does not end in NUL", ErrBadBTF)
	}
	return types, strings, nil
}

// index notes where each type starts and checks that it lies inside.
func (b *RawBTF) index() error {
	b.offsets = make([]uint32, 0, len(b.types)/20)
	for at := 0; at < len(b.types); {
		if len(b.types)-at < btfTypeLen {
			return fmt.Errorf("%w: type section ends inside a type", ErrBadBTF)
		}
		info := binary.LittleEndian.Uint32(b.types[at+4:])
		extra, ok := btfExtraLen(info)
		if !ok {
			return fmt.Errorf("%w: unknown kind %d at type %d", ErrBadBTF, btfKindOf(info), b.NextID())
		}
		if extra > len(b.types)-at-btfTypeLen || len(b.offsets) >= btfMaxTypes {
			return fmt.Errorf("%w: type %d is larger than its section", ErrBadBTF, b.NextID())
		}
		b.offsets = append(b.offsets, uint32(at))
		at += btfTypeLen + extra
	}
	return nil
}

func btfKindOf(info uint32) BTFKind { return BTFKind(info >> 24 & 0x7f) }

func btfLenOf(info uint32) int { return int(info & 0xffffff) }

// btfExtraLen returns the bytes that follow the common part of a type.
func btfExtraLen(info uint32) (n int, known bool) {
	switch btfKindOf(info) {
	case BTFInt, BTFVar, BTFDeclTag:
		return 4, true
	case BTFArray:
		return 12, true
	case BTFStruct, BTFUnion, BTFDatasec, BTFEnum64:
		return 12 * btfLenOf(info), true
	case BTFEnum, BTFFuncProto:
		return 8 * btfLenOf(info), true
	case BTFPtr, BTFFwd, BTFTypedef, BTFVolatile, BTFConst, BTFRestrict, BTFFunc, BTFFloat, BTFTypeTag:
		return 0, true
	default:
		return 0, false
	}
}

// FirstID is the ID of the first type that is not the base's.
func (b *RawBTF) FirstID() uint32 { return b.firstID }

// NextID is one more than the ID of the last type.
func (b *RawBTF) NextID() uint32 { return b.firstID + uint32(len(b.offsets)) }

// Type returns the type with the given ID. The ID 0 is void; false means that
// there is no such type.
func (b *RawBTF) Type(id uint32) (BTFType, bool) {
	if id == 0 {
		return BTFType{}, true
	}
	for b != nil && id < b.firstID {
		b = b.base
	}
	if b == nil || id >= b.NextID() {
		return BTFType{}, false
	}
	raw := b.types[b.offsets[id-b.firstID]:]
	le := binary.LittleEndian
	info := le.Uint32(raw[4:])
	extra, _ := btfExtraLen(info)
	return BTFType{
		ID:        id,
		Kind:      btfKindOf(info),
		KindFlag:  info>>31 != 0,
		Len:       btfLenOf(info),
		NameOff:   le.Uint32(raw),
		SizeOrRef: le.Uint32(raw[8:]),
		extra:     raw[btfTypeLen : btfTypeLen+extra],
	}, true
}

// Resolve is Type without typedefs, qualifiers and type tags. A chain that is
// longer than any sane one (damaged BTF can hold a cycle) gives false.
func (b *RawBTF) Resolve(id uint32) (BTFType, bool) {
	for range btfChainLimit {
		t, ok := b.Type(id)
		if !ok {
			return BTFType{}, false
		}
		switch t.Kind {
		case BTFTypedef, BTFVolatile, BTFConst, BTFRestrict, BTFTypeTag:
			id = t.SizeOrRef
		default:
			return t, true
		}
	}
	return BTFType{}, false
}

// Name returns the string at an offset, without copying; empty when there is
// none.
func (b *RawBTF) Name(off uint32) []byte {
	for b != nil && off < b.strBase {
		b = b.base
	}
	if b == nil || uint64(off-b.strBase) >= uint64(len(b.strings)) {
		return nil
	}
	s := b.strings[off-b.strBase:]
	if end := bytes.IndexByte(s, 0); end >= 0 {
		return s[:end]
	}
	return nil
}

// Param returns name offset and type ID of a function prototype's parameter.
// The parameter after the last of a variadic function has both zero.
func (t BTFType) Param(i int) (nameOff, typeID uint32) {
	return binary.LittleEndian.Uint32(t.extra[8*i:]), binary.LittleEndian.Uint32(t.extra[8*i+4:])
}

// Enumerator returns name offset and value of an enum's or enum64's member;
// values of a 32-bit enum are zero-extended when it is unsigned.
func (t BTFType) Enumerator(i int) (nameOff uint32, value int64) {
	le := binary.LittleEndian
	if t.Kind == BTFEnum64 {
		raw := t.extra[12*i:]
		return le.Uint32(raw), int64(uint64(le.Uint32(raw[4:])) | uint64(le.Uint32(raw[8:]))<<32)
	}
	raw := t.extra[8*i:]
	if t.KindFlag {
		return le.Uint32(raw), int64(int32(le.Uint32(raw[4:])))
	}
	return le.Uint32(raw), int64(le.Uint32(raw[4:]))
}

// IntEncoding returns the width in bits and the flags of an integer.
func (t BTFType) IntEncoding() (bits int, signed, boolean bool) {
	if t.Kind != BTFInt {
		return 0, false, false
	}
	v := binary.LittleEndian.Uint32(t.extra)
	return int(v & 0xff), v>>24&1 != 0, v>>24&4 != 0
}

// NameIs compares the string at an offset with name.
func (b *RawBTF) NameIs(off uint32, name string) bool {
	for b != nil && off < b.strBase {
		b = b.base
	}
	if b == nil {
		return false
	}
	at := uint64(off - b.strBase)
	end := at + uint64(len(name))
	return end < uint64(len(b.strings)) && b.strings[end] == 0 && string(b.strings[at:end]) == name
}

// OfKind yields the own types (not the base's) of that kind, by ascending ID.
func (b *RawBTF) OfKind(kind BTFKind) iter.Seq[BTFType] {
	return func(yield func(BTFType) bool) {
		for i, at := range b.offsets {
			if BTFKind(b.types[at+7]&0x7f) != kind {
				continue
			}
			if t, _ := b.Type(b.firstID + uint32(i)); !yield(t) {
				return
			}
		}
	}
}

// Find returns the first own type of that kind and name.
func (b *RawBTF) Find(kind BTFKind, name string) (BTFType, bool) {
	for t := range b.OfKind(kind) {
		if b.NameIs(t.NameOff, name) {
			return t, true
		}
	}
	return BTFType{}, false
}

// HasFunc says whether there is a function of that name, static or not.
func (b *RawBTF) HasFunc(name string) bool {
	_, ok := b.Find(BTFFunc, name)
	return ok
}
