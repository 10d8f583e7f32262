// Package btftest assembles small BTF for tests, module BTF on top of another
// included, which the general library cannot write.
package btftest

import (
	"encoding/binary"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// Builder collects types. The zero Builder is that of a vmlinux.
type Builder struct {
	base    *Builder
	types   []byte
	strings []byte
	count   uint32
}

// On starts the BTF of a module that continues base, to which nothing may be
// added any more.
func On(base *Builder) *Builder { return &Builder{base: base} }

// Name is the name of a parameter or an enumerator with its type or value.
type Name struct {
	Name  string
	Value uint32
}

func (b *Builder) strBase() uint32 {
	if b.base == nil {
		return 0
	}
	return b.base.strBase() + uint32(len(b.base.stringSection()))
}

func (b *Builder) stringSection() []byte {
	if len(b.strings) == 0 {
		return []byte{0}
	}
	return b.strings
}

func (b *Builder) lastID() uint32 {
	if b.base == nil {
		return b.count
	}
	return b.base.lastID() + b.count
}

func (b *Builder) name(s string) uint32 {
	if s == "" {
		return 0
	}
	b.strings = b.stringSection()
	off := b.strBase() + uint32(len(b.strings))
	b.strings = append(append(b.strings, s...), 0)
	return off
}

// Add appends a type whose kind-specific part is extra and returns its ID.
func (b *Builder) Add(kind kernel.BTFKind, name string, length int, sizeOrRef uint32, extra ...uint32) uint32 {
	le := binary.LittleEndian
	b.types = le.AppendUint32(b.types, b.name(name))
	b.types = le.AppendUint32(b.types, uint32(kind)<<24|uint32(length))
	b.types = le.AppendUint32(b.types, sizeOrRef)
	for _, v := range extra {
		b.types = le.AppendUint32(b.types, v)
	}
	b.count++
	return b.lastID()
}

// Int adds an integer of that many bytes; flags are 1 signed, 4 bool.
func (b *Builder) Int(name string, size, flags uint32) uint32 {
	return b.Add(kernel.BTFInt, name, 0, size, flags<<24|8*size)
}

// Struct adds a struct without members.
func (b *Builder) Struct(name string, size uint32) uint32 {
	return b.Add(kernel.BTFStruct, name, 0, size)
}

// Ref adds a type that refers to another: pointer, const, volatile, typedef …
func (b *Builder) Ref(kind kernel.BTFKind, name string, to uint32) uint32 {
	return b.Add(kind, name, 0, to)
}

// Enum adds a 32-bit enum.
func (b *Builder) Enum(name string, members ...Name) uint32 {
	var extra []uint32
	for _, m := range members {
		extra = append(extra, b.name(m.Name), m.Value)
	}
	return b.Add(kernel.BTFEnum, name, len(members), 4, extra...)
}

// Func adds a function of that return type with parameters of these types.
func (b *Builder) Func(name string, returns uint32, params ...uint32) uint32 {
	var extra []uint32
	for _, p := range params {
		extra = append(extra, 0, p)
	}
	proto := b.Add(kernel.BTFFuncProto, "", len(params), returns, extra...)
	return b.Add(kernel.BTFFunc, name, 1, proto)
}

// Bytes returns the BTF.
func (b *Builder) Bytes() []byte {
	le := binary.LittleEndian
	strings := b.stringSection()
	out := []byte{0x9f, 0xeb, 1, 0}
	for _, v := range []uint32{24, 0, uint32(len(b.types)), uint32(len(b.types)), uint32(len(strings))} {
		out = le.AppendUint32(out, v)
	}
	return append(append(out, b.types...), strings...)
}
