package filter

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// LoadMode says how translated code reads packet bytes.
type LoadMode uint8

const (
	// LoadProbe reads through the helper bpf_probe_read_kernel (Linux 5.5):
	// one call for the headers, one for every load beyond them or at a computed
	// offset. A read that faults rejects the packet.
	LoadProbe LoadMode = iota
	// LoadDirect reads with plain load instructions from a pointer that the
	// kfunc bpf_rdonly_cast made; it needs the kernel's JIT compiler. A read
	// that faults yields zero. [ResolveDirect] says whether a kernel has it.
	LoadDirect
)

// String returns "probe" or "direct".
func (m LoadMode) String() string {
	if m == LoadDirect {
		return "direct"
	}
	return "probe"
}

// Options say which kernel the translated code is for.
type Options struct {
	// Mode is how packet bytes are read.
	Mode LoadMode
	// Direct is what [LoadDirect] needs; see [ResolveDirect].
	Direct Direct
}

// Registers of a translated program. R0 to R5 are scratch.
const (
	regBase   = asm.R6 // address of byte 0: LoadProbe a scalar, LoadDirect a cast pointer TypeSize below
	regA      = asm.R7
	regX      = asm.R8
	regCaplen = asm.R9
)

// maxInstructions keeps every jump within its signed 16-bit offset.
const maxInstructions = math.MaxInt16

// Instructions translates the classic program of a layer into the body of an
// eBPF subprogram with the contract
//
//	u32 filter(u64 data, u32 caplen, u32 wirelen)
//
// where data is the kernel address of the layer's first byte as a scalar,
// caplen the number of bytes readable from there, and wirelen the packet's
// length from there on (what "len" in an expression means). It returns 1 for
// a match and 0 otherwise, uses at most 160 bytes of stack, and needs a
// GPL-compatible program. It loads from Linux 5.10 on.
//
// The semantics are those of classic BPF: a load outside caplen and a division
// by zero reject; A, X and scratch memory start as zero. A variable shift by 32
// bits or more uses the low five bits of its count, as in the kernel.
func (p *Program) Instructions(l Layer, o Options) (asm.Instructions, error) {
	raw := p.classic(l)
	if len(raw) == 0 {
		return asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}, nil
	}
	if o.Mode == LoadDirect {
		if err := o.Direct.validate(); err != nil {
			return nil, fmt.Errorf("translate filter %q: %w", p.Expression, err)
		}
	}
	use, err := analyse(raw)
	if err != nil {
		return nil, fmt.Errorf("translate filter %q: %w", p.Expression, err)
	}
	t := newTranslator(raw, use, o)
	t.prologue()
	for i := range raw {
		if use.reachable[i] {
			t.instruction(i)
		}
	}
	t.epilogue()
	if len(t.out) > maxInstructions {
		return nil, fmt.Errorf("translate filter %q: %d eBPF instructions exceed %d; shorten the expression",
			p.Expression, len(t.out), maxInstructions)
	}
	t.resolve()
	return t.out, nil
}

// reject as a jump target stands for the end of the program that returns 0.
const reject = -1

// jump is a jump instruction whose offset is not known yet.
type jump struct {
	at     int // index in out
	target int // index in raw, or reject
}

// translator holds one translation. Translation is a single pass, because
// classic jumps lead forward only.
type translator struct {
	raw  []bpf.RawInstruction
	use  usage
	opts Options

	out      asm.Instructions
	start    []int // by classic instruction: index of its first eBPF instruction
	jumps    []jump
	rejectAt int // index in out of the rejecting end

	// proven is, by classic instruction, the number of packet bytes that
	// every way to it has already checked to be there.
	proven []uint32

	window    window
	stackTop  int16                    // lowest stack offset handed out so far
	bufferOff int16                    // LoadProbe: where the helper writes
	dataOff   int16                    // LoadDirect: the address of byte 0 less TypeSize, as a scalar
	lenOff    int16                    // the packet's length on the wire
	slotOff   [unix.BPF_MEMWORDS]int16 // scratch memory, where used
}

func newTranslator(raw []bpf.RawInstruction, use usage, o Options) *translator {
	t := &translator{
		raw:    raw,
		use:    use,
		opts:   o,
		start:  make([]int, len(raw)),
		proven: make([]uint32, len(raw)),
	}
	for i := 1; i < len(raw); i++ {
		t.proven[i] = math.MaxUint32
	}
	return t
}

func (t *translator) emit(ins ...asm.Instruction) { t.out = append(t.out, ins...) }

// allocate returns the stack offset of size fresh bytes, aligned to size,
// which is a power of two.
func (t *translator) allocate(size int16) int16 {
	t.stackTop = (t.stackTop - size) &^ (size - 1)
	return t.stackTop
}

// jumpTo emits a jump to a classic instruction or to reject.
func (t *translator) jumpTo(ins asm.Instruction, target int) {
	t.jumps = append(t.jumps, jump{at: len(t.out), target: target})
	t.emit(bare(ins))
}

// bare takes the label off a jump, whose offset is set by index.
func bare(ins asm.Instruction) asm.Instruction {
	ins.Metadata = asm.Metadata{}
	return ins
}

// resolve fills in the jump offsets. Every emitted instruction is one raw
// instruction wide, so that indices are offsets.
func (t *translator) resolve() {
	for _, j := range t.jumps {
		to := t.rejectAt
		if j.target != reject {
			to = t.start[j.target]
		}
		t.out[j.at].Offset = int16(to - j.at - 1)
	}
}

// prologue saves the arguments that are needed later and clears the state.
func (t *translator) prologue() {
	if t.use.length {
		t.lenOff = t.allocate(4)
		t.emit(asm.StoreMem(asm.RFP, t.lenOff, asm.R3, asm.Word))
	}
	if t.use.loads() {
		t.emit(asm.Mov.Reg32(regCaplen, asm.R2))
		t.prepareLoads()
	}
	for n := range t.slotOff {
		if t.use.slots&(1<<n) != 0 {
			t.slotOff[n] = t.allocate(4)
			t.emit(asm.StoreImm(asm.RFP, t.slotOff[n], 0, asm.Word))
		}
	}
	// libpcap's programs begin with a load, which makes clearing A pointless.
	if first := t.raw[0]; first.Op&classMask != unix.BPF_LD && first.Op != opRetK {
		t.emit(asm.Mov.Imm32(regA, 0))
	}
	if t.use.readsX {
		t.emit(asm.Mov.Imm32(regX, 0))
	}
}

// epilogue emits the rejecting end if a jump needs it and the program does not
// already end with it.
func (t *translator) epilogue() {
	last := len(t.raw) - 1
	if t.use.reachable[last] && t.raw[last].Op == opRetK && t.raw[last].K == 0 {
		t.rejectAt = t.start[last]
		return
	}
	for _, j := range t.jumps {
		if j.target == reject {
			t.rejectAt = len(t.out)
			t.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
			return
		}
	}
}

// instruction translates the classic instruction i.
func (t *translator) instruction(i int) {
	t.start[i] = len(t.out)
	ins, known := t.raw[i], t.proven[i]
	switch ins.Op & classMask {
	case unix.BPF_LD, unix.BPF_LDX:
		known = t.load(ins, known)
	case unix.BPF_ST:
		t.emit(asm.StoreMem(asm.RFP, t.slotOff[ins.K], regA, asm.Word))
	case unix.BPF_STX:
		t.emit(asm.StoreMem(asm.RFP, t.slotOff[ins.K], regX, asm.Word))
	case unix.BPF_ALU:
		t.alu(ins)
	case unix.BPF_JMP:
		t.branch(ins, i)
	case unix.BPF_RET:
		t.ret(ins)
	case unix.BPF_MISC:
		if ins.Op == unix.BPF_MISC|unix.BPF_TAX {
			t.emit(asm.Mov.Reg32(regX, regA))
		} else {
			t.emit(asm.Mov.Reg32(regA, regX))
		}
	}
	for _, next := range successors(ins, i) {
		t.proven[next] = min(t.proven[next], known)
	}
}

// aluOp returns the eBPF operation of a classic one.
func aluOp(ins bpf.RawInstruction) asm.ALUOp {
	switch ins.Op & aluMask {
	case unix.BPF_SUB:
		return asm.Sub
	case unix.BPF_MUL:
		return asm.Mul
	case unix.BPF_DIV:
		return asm.Div
	case unix.BPF_OR:
		return asm.Or
	case unix.BPF_AND:
		return asm.And
	case unix.BPF_LSH:
		return asm.LSh
	case unix.BPF_RSH:
		return asm.RSh
	case unix.BPF_MOD:
		return asm.Mod
	case unix.BPF_XOR:
		return asm.Xor
	}
	return asm.Add
}

// alu translates 32-bit arithmetic on A. eBPF divides by zero to zero, classic
// BPF rejects.
func (t *translator) alu(ins bpf.RawInstruction) {
	op := ins.Op & aluMask
	switch {
	case op == unix.BPF_NEG:
		t.emit(asm.Neg.Imm32(regA, 0))
	case ins.Op&unix.BPF_X == 0:
		t.emit(aluOp(ins).Imm32(regA, int32(ins.K)))
	default:
		if op == unix.BPF_DIV || op == unix.BPF_MOD {
			t.jumpTo(asm.JEq.Imm32(regX, 0, ""), reject)
		}
		t.emit(aluOp(ins).Reg32(regA, regX))
	}
}

// branch translates a jump. A target that is the next instruction needs none.
func (t *translator) branch(ins bpf.RawInstruction, i int) {
	if ins.Op == opJa {
		t.jumpAlways(i, int(ins.K))
		return
	}
	jt, jf := int(ins.Jt), int(ins.Jf)
	taken, inverse := conditions(ins)
	switch {
	case jt == jf:
		t.jumpAlways(i, jt)
	case jt == 0 && inverse != asm.InvalidJumpOp:
		t.jumpTo(compare(inverse, ins), i+1+jf)
	default:
		t.jumpTo(compare(taken, ins), i+1+jt)
		t.jumpAlways(i, jf)
	}
}

// jumpAlways jumps over skip instructions after instruction i.
func (t *translator) jumpAlways(i, skip int) {
	if skip != 0 {
		t.jumpTo(asm.Ja.Label(""), i+1+skip)
	}
}

// conditions returns the eBPF condition of a classic jump and its opposite,
// which JSET lacks. Classic comparisons are unsigned.
func conditions(ins bpf.RawInstruction) (taken, inverse asm.JumpOp) {
	switch ins.Op & aluMask {
	case unix.BPF_JEQ:
		return asm.JEq, asm.JNE
	case unix.BPF_JGT:
		return asm.JGT, asm.JLE
	case unix.BPF_JGE:
		return asm.JGE, asm.JLT
	}
	return asm.JSet, asm.InvalidJumpOp
}

// compare compares A with the operand of a classic jump in 32 bits.
func compare(op asm.JumpOp, ins bpf.RawInstruction) asm.Instruction {
	if ins.Op&unix.BPF_X != 0 {
		return op.Reg32(regA, regX, "")
	}
	return op.Imm32(regA, int32(ins.K), "")
}

// ret translates a return: classic BPF returns a length, where zero rejects.
func (t *translator) ret(ins bpf.RawInstruction) {
	switch {
	case ins.Op == opRetA:
		t.emit(asm.Mov.Imm(asm.R0, 1))
		skip := bare(asm.JNE.Imm32(regA, 0, ""))
		skip.Offset = 1
		t.emit(skip, asm.Mov.Imm(asm.R0, 0), asm.Return())
	case ins.K == 0:
		t.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	default:
		t.emit(asm.Mov.Imm(asm.R0, 1), asm.Return())
	}
}
