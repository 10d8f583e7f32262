package filter

import (
	"fmt"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestBranches goes through every condition, operand, and layout of targets
// around the values where conditions differ.
func TestBranches(t *testing.T) {
	conditions := map[uint16]func(a, b uint32) bool{
		unix.BPF_JEQ:  func(a, b uint32) bool { return a == b },
		unix.BPF_JGT:  func(a, b uint32) bool { return a > b },
		unix.BPF_JGE:  func(a, b uint32) bool { return a >= b },
		unix.BPF_JSET: func(a, b uint32) bool { return a&b != 0 },
	}
	values := []uint32{0, 1, 2, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff}
	for op, holds := range conditions {
		for _, operand := range []uint16{unix.BPF_K, unix.BPF_X} {
			for _, targets := range [][2]uint8{{0, 2}, {2, 0}, {2, 4}, {4, 2}, {0, 0}, {2, 2}} {
				for _, a := range values {
					for _, b := range values {
						jt, jf := targets[0], targets[1]
						taken := jf
						if holds(a, b) {
							taken = jt
						}
						raw := []bpf.RawInstruction{
							{Op: unix.BPF_LD | unix.BPF_IMM, K: a},
							{Op: unix.BPF_LDX | unix.BPF_IMM, K: b},
							{Op: unix.BPF_JMP | op | operand, Jt: jt, Jf: jf, K: b},
						}
						for offset := uint8(0); offset <= 4; offset++ { // matches at the target only
							ret := bpf.RawInstruction{Op: opRetK}
							if offset == taken {
								ret.K = 1
							}
							raw = append(raw, ret)
						}
						name := fmt.Sprintf("%#x op %#x operand %#x %#x, targets %v", a, op, operand, b, targets)
						for i, body := range translateModes(t, raw) {
							got, err := run(body, modes()[i], nil, 0)
							if err != nil || got != 1 {
								t.Fatalf("%s: got %d, %v\n%v", name, got, err, body)
							}
						}
					}
				}
			}
		}
	}
}
