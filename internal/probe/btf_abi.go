package probe

import (
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// abi is what decides which register holds an argument of a kernel function.
type abi struct {
	registers int
	// byReference: a struct of more than 16 bytes is passed by its address
	// (AAPCS64); otherwise it is copied onto the stack (System V).
	byReference bool
	// exhausts: an argument that does not fit into the registers left ends
	// their use for all later ones (AAPCS64); otherwise later ones still use
	// them (System V).
	exhausts bool
}

func abiOf(arch string) (abi, error) {
	switch arch {
	case "amd64":
		return abi{registers: 6}, nil
	case "arm64":
		return abi{registers: 8, byReference: true, exhausts: true}, nil
	default:
		return abi{}, fmt.Errorf("place arguments: architecture %s is unknown, use amd64 or arm64", arch)
	}
}

// placement walks over the parameters of one function.
type placement struct {
	abi  abi
	used int // registers taken so far
}

// next returns the register in which an argument of the type starts, or -1
// when it is on the stack, and moves on.
func (p *placement) next(b *kernel.RawBTF, id uint32) int {
	need, aligned := p.needs(b, id)
	if need == 0 {
		return -1
	}
	first := p.used
	if aligned && p.abi.exhausts {
		first += first & 1 // AAPCS64 C.8: an even register for 16-byte alignment
	}
	if first+need > p.abi.registers {
		if p.abi.exhausts {
			p.used = p.abi.registers
		}
		return -1
	}
	p.used = first + need
	return first
}

// needs returns how many registers an argument of the type takes, 0 when it
// goes to the stack or vanishes, and whether it is aligned to 16 bytes.
func (p *placement) needs(b *kernel.RawBTF, id uint32) (n int, aligned bool) {
	t, ok := b.Resolve(id)
	if !ok {
		return 0, false
	}
	switch t.Kind {
	case kernel.BTFPtr:
		return 1, false
	case kernel.BTFInt, kernel.BTFEnum, kernel.BTFEnum64:
		return wordsOf(t.SizeOrRef), t.SizeOrRef > 8
	case kernel.BTFStruct, kernel.BTFUnion:
		if t.SizeOrRef <= 16 {
			return wordsOf(t.SizeOrRef), false
		}
		if p.abi.byReference {
			return 1, false
		}
	}
	return 0, false // float, void (the end of a variadic list), large on System V
}

func wordsOf(size uint32) int { return int(size+7) / 8 }
