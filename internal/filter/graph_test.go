package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// checkGraph applies what every kernel's verifier demands of the control flow:
// no dead code, forward jumps, and no way past the end.
func checkGraph(body asm.Instructions) error {
	seen := make([]bool, len(body)+1)
	seen[0] = true
	for i, ins := range body {
		if !seen[i] {
			return fmt.Errorf("instruction %d (%v) is dead code", i, ins)
		}
		if ins.Width() != 1 {
			return fmt.Errorf("instruction %d (%v) is wide", i, ins)
		}
		class := ins.OpCode.Class()
		jumps := class == asm.JumpClass || class == asm.Jump32Class
		op := ins.OpCode.JumpOp()
		if jumps && op == asm.Exit {
			continue
		}
		if jumps && op != asm.Call {
			to := i + 1 + int(ins.Offset)
			if to <= i || to >= len(body) {
				return fmt.Errorf("instruction %d (%v) jumps to %d", i, ins, to)
			}
			seen[to] = true
			if op == asm.Ja {
				continue
			}
		}
		seen[i+1] = true
	}
	if seen[len(body)] {
		return fmt.Errorf("falls off the end")
	}
	return nil
}
