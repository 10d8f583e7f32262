package filter

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Classic opcodes that need a name of their own, see linux/filter.h.
const (
	opRetK = unix.BPF_RET | unix.BPF_K
	opRetA = unix.BPF_RET | unix.BPF_A
	opJa   = unix.BPF_JMP | unix.BPF_JA
	opLen  = unix.BPF_W | unix.BPF_LEN
	opMsh  = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH

	classMask = 0x07
	sizeMask  = 0x18
	modeMask  = 0xe0
	aluMask   = 0xf0

	// nearLimit bounds the offsets that go into a load instruction itself: its
	// field is 16 bits signed, and the size of the cast type comes on top.
	nearLimit = 1 << 14

	// firstSpecial is the lowest load offset that the kernel takes for
	// something other than packet bytes (SKF_LL_OFF, SKF_NET_OFF, SKF_AD_OFF).
	firstSpecial = 1 << 31
)

// usage is what a classic program needs prepared before its first instruction.
type usage struct {
	reachable []bool // by instruction; dead code may not reach the verifier
	near      bool   // loads at a constant offset that a load instruction can hold
	computed  bool   // loads whose address has to be calculated
	length    bool   // reads the packet length
	readsX    bool   // X is read
	slots     uint16 // bit per scratch slot that is read or written
}

// loads reports whether the program looks at packet bytes at all.
func (u usage) loads() bool { return u.near || u.computed }

// analyse checks that raw is a valid classic program with forward jumps only
// that reads nothing but packet bytes, and says what it needs. The error is
// one sentence for the user.
func analyse(raw []bpf.RawInstruction) (usage, error) {
	u := usage{reachable: make([]bool, len(raw))}
	if len(raw) == 0 {
		return u, nil
	}
	u.reachable[0] = true
	for i, ins := range raw {
		if !u.reachable[i] {
			continue
		}
		if err := u.note(ins); err != nil {
			return u, err
		}
		for _, next := range successors(ins, i) {
			if next >= len(raw) {
				return u, fmt.Errorf("instruction %d: leads past the end of the classic program", i)
			}
			u.reachable[next] = true
		}
	}
	return u, nil
}

// successors returns the instructions that can follow instruction i; none
// after a return. Equal targets are returned twice.
func successors(ins bpf.RawInstruction, i int) []int {
	switch {
	case ins.Op&classMask == unix.BPF_RET:
		return nil
	case ins.Op == opJa:
		return []int{i + 1 + int(ins.K)}
	case ins.Op&classMask == unix.BPF_JMP:
		return []int{i + 1 + int(ins.Jt), i + 1 + int(ins.Jf)}
	}
	return []int{i + 1}
}

// note validates one instruction and adds its needs to u.
func (u *usage) note(ins bpf.RawInstruction) error {
	switch ins.Op & classMask {
	case unix.BPF_LD, unix.BPF_LDX:
		return u.noteLoad(ins)
	case unix.BPF_ST, unix.BPF_STX:
		return u.noteSlot(ins)
	case unix.BPF_ALU:
		return u.noteALU(ins)
	case unix.BPF_JMP:
		return u.noteJump(ins)
	case unix.BPF_RET:
		if ins.Op != opRetK && ins.Op != opRetA {
			return errOpcode(ins)
		}
	case unix.BPF_MISC:
		switch ins.Op {
		case unix.BPF_MISC | unix.BPF_TAX:
		case unix.BPF_MISC | unix.BPF_TXA:
			u.readsX = true
		default:
			return errOpcode(ins)
		}
	}
	return nil
}

func (u *usage) noteLoad(ins bpf.RawInstruction) error {
	class, size, mode := ins.Op&classMask, ins.Op&sizeMask, ins.Op&modeMask
	packet := mode == unix.BPF_ABS || mode == unix.BPF_IND
	switch {
	case ins.Op&^(classMask|sizeMask|modeMask) != 0, size == sizeMask:
		return errOpcode(ins)
	case packet && class == unix.BPF_LDX:
		return errOpcode(ins)
	case mode == unix.BPF_MSH && ins.Op != opMsh:
		return errOpcode(ins)
	case !packet && mode != unix.BPF_MSH && size != unix.BPF_W:
		return errOpcode(ins)
	}
	switch mode {
	case unix.BPF_ABS, unix.BPF_MSH:
		if ins.K >= firstSpecial {
			return errAncillary
		}
		if ins.K < nearLimit {
			u.near = true
		} else {
			u.computed = true
		}
	case unix.BPF_IND:
		u.computed, u.readsX = true, true
	case unix.BPF_LEN:
		u.length = true
	case unix.BPF_MEM:
		return u.noteSlot(ins)
	case unix.BPF_IMM:
	default:
		return errOpcode(ins)
	}
	return nil
}

func (u *usage) noteSlot(ins bpf.RawInstruction) error {
	if ins.K >= unix.BPF_MEMWORDS {
		return fmt.Errorf("scratch slot %d does not exist", ins.K)
	}
	switch ins.Op & classMask {
	case unix.BPF_ST, unix.BPF_STX:
		if ins.Op&^classMask != 0 {
			return errOpcode(ins)
		}
	}
	if ins.Op == unix.BPF_STX {
		u.readsX = true
	}
	u.slots |= 1 << ins.K
	return nil
}

func (u *usage) noteALU(ins bpf.RawInstruction) error {
	op, constant := ins.Op&aluMask, ins.Op&unix.BPF_X == 0
	if ins.Op > 0xff || op > unix.BPF_XOR {
		return errOpcode(ins)
	}
	switch {
	case !constant && op != unix.BPF_NEG:
		u.readsX = true
	case (op == unix.BPF_DIV || op == unix.BPF_MOD) && ins.K == 0:
		return errors.New("division by the constant zero")
	case (op == unix.BPF_LSH || op == unix.BPF_RSH) && ins.K >= 32:
		return errors.New("shift by a constant of 32 bits or more")
	}
	return nil
}

func (u *usage) noteJump(ins bpf.RawInstruction) error {
	switch op := ins.Op & aluMask; {
	case ins.Op == opJa:
		if ins.K > math.MaxInt32 {
			return errLoop
		}
	case ins.Op > 0xff, op == unix.BPF_JA, op > unix.BPF_JSET:
		return errOpcode(ins)
	case ins.Op&unix.BPF_X != 0:
		u.readsX = true
	}
	return nil
}

func errOpcode(ins bpf.RawInstruction) error {
	return fmt.Errorf("classic opcode %#04x is not supported", ins.Op)
}

// loadSize returns how many bytes a packet load reads.
func loadSize(ins bpf.RawInstruction) uint32 {
	switch ins.Op & sizeMask {
	case unix.BPF_B:
		return 1
	case unix.BPF_H:
		return 2
	}
	return 4
}
