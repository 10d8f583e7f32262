package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// privateStackBytes is how large a frame the kernel, since Linux 6.13, puts into memory
// of the CPU (BPF_PRIV_STACK_MIN_SIZE in
// https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c), rounded to 16 bytes.
const privateStackBytes = 64

// TestStatementsStayOnTheStack holds the functions of the only program that may be
// preempted by itself, as a uprobe's may, to frames that are its thread's own.
func TestStatementsStayOnTheStack(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"classic": loadClassic, "session": loadSession, "block": loadBlock, "blockold": loadBlockOld,
	} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		program, ok := spec.Programs[ProgramApplicationStatement]
		if !ok {
			t.Fatalf("%s: there is no program %s", name, ProgramApplicationStatement)
		}
		deepest := 0
		for function, bytes := range frameBytes(program.Instructions) {
			deepest = max(deepest, bytes)
			if rounded := (bytes + 15) &^ 15; rounded >= privateStackBytes {
				t.Errorf("%s: %s has a frame of %d bytes, want less than %d", name, function, rounded, privateStackBytes)
			}
		}
		if deepest == 0 {
			t.Errorf("%s: no function of %s has a frame: this test sees none", name, ProgramApplicationStatement)
		}
	}
}

// frameBytes gives how far below its frame pointer each function reaches.
func frameBytes(instructions asm.Instructions) map[string]int {
	frames := map[string]int{}
	function := ""
	for i, ins := range instructions {
		if name := ins.Symbol(); name != "" {
			function = name
		}
		below := 0
		switch class := ins.OpCode.Class(); {
		case class.IsLoad() && ins.Src == asm.RFP, class.IsStore() && ins.Dst == asm.RFP:
			below = -int(ins.Offset)
		case ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && i > 0:
			if last := instructions[i-1]; last.OpCode.ALUOp() == asm.Mov && last.Src == asm.RFP && last.Dst == ins.Dst {
				below = -int(ins.Constant)
			}
		}
		frames[function] = max(frames[function], below)
	}
	return frames
}
