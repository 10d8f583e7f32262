package filter

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf/asm"
)

// The interpreter executes what the translator emits and is stricter than a
// kernel: it fails on anything uninitialised, on a packet byte outside caplen,
// on a pointer used as what it is not, and on instructions it does not know.

const (
	packetAddr = 0xffff_8880_1234_5671 // odd on purpose
	stackAddr  = 0x5000_0000_0200      // R10; the stack grows down
	stackSize  = 160
)

type kind uint8

const (
	unset kind = iota
	scalar
	stackPtr
	castPtr
)

type word struct {
	kind kind
	v    uint64
}

type machine struct {
	regs   [11]word
	stack  [stackSize]byte
	inited [stackSize]bool
	packet []byte // caplen bytes
	opts   Options
	steps  int
}

// run executes a translated body and returns R0.
func run(body asm.Instructions, o Options, packet []byte, wirelen uint32) (uint64, error) {
	m := &machine{packet: packet, opts: o}
	m.regs[asm.R1] = word{scalar, packetAddr}
	// The upper halves of 32-bit arguments are not the callee's to trust.
	m.regs[asm.R2] = word{scalar, 0xdead<<32 | uint64(len(packet))}
	m.regs[asm.R3] = word{scalar, 0xbeef<<32 | uint64(wirelen)}
	m.regs[asm.RFP] = word{stackPtr, stackAddr}
	for pc := 0; pc < len(body); pc++ {
		m.steps++
		ins := body[pc]
		if ins.OpCode == asm.Return().OpCode {
			return m.get(asm.R0)
		}
		skip, err := m.step(ins)
		if err != nil {
			return 0, fmt.Errorf("instruction %d (%v): %w", pc, ins, err)
		}
		pc += skip
	}
	return 0, fmt.Errorf("fell off the end")
}

func (m *machine) get(r asm.Register) (uint64, error) {
	if m.regs[r].kind != scalar {
		return 0, fmt.Errorf("%v is not a scalar", r)
	}
	return m.regs[r].v, nil
}

func (m *machine) step(ins asm.Instruction) (int, error) {
	switch ins.OpCode.Class() {
	case asm.ALUClass, asm.ALU64Class:
		return 0, m.alu(ins)
	case asm.LdXClass:
		return 0, m.loadMem(ins)
	case asm.StClass, asm.StXClass:
		return 0, m.storeMem(ins)
	case asm.JumpClass, asm.Jump32Class:
		if ins.OpCode.JumpOp() == asm.Call {
			return 0, m.call(ins)
		}
		taken, err := m.jump(ins)
		if !taken || err != nil {
			return 0, err
		}
		if ins.Offset < 0 {
			return 0, fmt.Errorf("jumps back")
		}
		return int(ins.Offset), nil
	}
	return 0, fmt.Errorf("class is not emitted")
}

func (m *machine) operand(ins asm.Instruction) (word, error) {
	if ins.OpCode.Source() == asm.ImmSource {
		return word{scalar, uint64(ins.Constant)}, nil
	}
	w := m.regs[ins.Src]
	if w.kind == unset {
		return w, fmt.Errorf("%v is not initialised", ins.Src)
	}
	return w, nil
}

func (m *machine) alu(ins asm.Instruction) error {
	wide := ins.OpCode.Class() == asm.ALU64Class
	op := ins.OpCode.ALUOp()
	if op == asm.Swap {
		return m.swap(ins)
	}
	src, err := m.operand(ins)
	if err != nil {
		return err
	}
	dst := &m.regs[ins.Dst]
	if op == asm.Mov {
		if !wide {
			if src.kind != scalar {
				return fmt.Errorf("cuts a pointer")
			}
			src.v = uint64(uint32(src.v))
		}
		*dst = src
		return nil
	}
	if src.kind != scalar || dst.kind == unset || dst.kind == castPtr {
		return fmt.Errorf("arithmetic on operands %d, %d", dst.kind, src.kind)
	}
	if dst.kind == stackPtr && !(wide && op == asm.Add) {
		return fmt.Errorf("arithmetic on a stack pointer")
	}
	if wide {
		if op != asm.Add {
			return fmt.Errorf("64-bit operation is not emitted")
		}
		dst.v += src.v
		return nil
	}
	v, err := alu32(op, uint32(dst.v), uint32(src.v))
	dst.v = uint64(v)
	return err
}

func alu32(op asm.ALUOp, a, b uint32) (uint32, error) {
	switch op {
	case asm.Add:
		return a + b, nil
	case asm.Sub:
		return a - b, nil
	case asm.Mul:
		return a * b, nil
	case asm.Div, asm.Mod:
		if b == 0 {
			return 0, fmt.Errorf("divides by zero")
		}
		if op == asm.Div {
			return a / b, nil
		}
		return a % b, nil
	case asm.Or:
		return a | b, nil
	case asm.And:
		return a & b, nil
	case asm.Xor:
		return a ^ b, nil
	case asm.LSh:
		return a << (b & 31), nil
	case asm.RSh:
		return a >> (b & 31), nil
	case asm.Neg:
		return -a, nil
	}
	return 0, fmt.Errorf("operation %v is not emitted", op)
}

// swap is a conversion to big endian on a little-endian machine.
func (m *machine) swap(ins asm.Instruction) error {
	v, err := m.get(ins.Dst)
	if err != nil {
		return err
	}
	switch {
	case ins.OpCode.Endianness() != asm.BE:
		return fmt.Errorf("converts to little endian")
	case ins.Constant == 16:
		v = uint64(bits.ReverseBytes16(uint16(v)))
	case ins.Constant == 32:
		v = uint64(bits.ReverseBytes32(uint32(v)))
	default:
		return fmt.Errorf("swaps %d bits", ins.Constant)
	}
	m.regs[ins.Dst].v = v
	return nil
}

// stackRange returns the index in stack of n bytes at an address.
func stackRange(addr uint64, n int) (int, error) {
	i := int64(addr) - (stackAddr - stackSize)
	if i < 0 || i+int64(n) > stackSize || i%int64(n) != 0 {
		return 0, fmt.Errorf("stack access of %d at %d", n, i-stackSize)
	}
	return int(i), nil
}

func (m *machine) packetBytes(addr uint64, n int) ([]byte, error) {
	off := addr - packetAddr
	if off > uint64(len(m.packet)) || uint64(n) > uint64(len(m.packet))-off {
		return nil, fmt.Errorf("reads %d packet bytes at %d of %d", n, int64(off), len(m.packet))
	}
	return m.packet[off : off+uint64(n)], nil
}

func (m *machine) loadMem(ins asm.Instruction) error {
	n := ins.OpCode.Size().Sizeof()
	base := m.regs[ins.Src]
	addr := base.v + uint64(ins.Offset)
	var src []byte
	switch base.kind {
	case stackPtr:
		i, err := stackRange(addr, n)
		if err != nil {
			return err
		}
		for _, ok := range m.inited[i : i+n] {
			if !ok {
				return fmt.Errorf("reads stack that was not written")
			}
		}
		src = m.stack[i : i+n]
	case castPtr:
		if ins.Offset < int16(m.opts.Direct.TypeSize) {
			return fmt.Errorf("reads a field of the cast struct")
		}
		var err error
		if src, err = m.packetBytes(addr, n); err != nil {
			return err
		}
	default:
		return fmt.Errorf("loads through %v, which is no pointer", ins.Src)
	}
	var full [8]byte
	copy(full[:], src)
	m.regs[ins.Dst] = word{scalar, binary.LittleEndian.Uint64(full[:])}
	return nil
}

func (m *machine) storeMem(ins asm.Instruction) error {
	n := ins.OpCode.Size().Sizeof()
	v := uint64(ins.Constant)
	if ins.OpCode.Class() == asm.StXClass {
		var err error
		if v, err = m.get(ins.Src); err != nil {
			return err
		}
	}
	if m.regs[ins.Dst].kind != stackPtr {
		return fmt.Errorf("stores outside the stack")
	}
	i, err := stackRange(m.regs[ins.Dst].v+uint64(ins.Offset), n)
	if err != nil {
		return err
	}
	var full [8]byte
	binary.LittleEndian.PutUint64(full[:], v)
	copy(m.stack[i:i+n], full[:])
	for j := i; j < i+n; j++ {
		m.inited[j] = true
	}
	return nil
}

func (m *machine) call(ins asm.Instruction) error {
	var result word
	switch {
	case ins.Src == asm.PseudoKfuncCall && m.opts.Mode == LoadDirect:
		id, err := m.get(asm.R2)
		if err != nil {
			return err
		}
		if ins.Constant != int64(m.opts.Direct.KfuncID) || id != uint64(m.opts.Direct.TypeID) || ins.Offset != 0 {
			return fmt.Errorf("casts by kfunc %d to type %d", ins.Constant, id)
		}
		addr, err := m.get(asm.R1)
		if err != nil {
			return err
		}
		result = word{castPtr, addr}
	case ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == asm.FnProbeReadKernel && m.opts.Mode == LoadProbe:
		if err := m.probeRead(); err != nil {
			return err
		}
		result = word{scalar, 0}
	default:
		return fmt.Errorf("calls something else")
	}
	for r := asm.R1; r <= asm.R5; r++ {
		m.regs[r] = word{}
	}
	m.regs[asm.R0] = result
	return nil
}

func (m *machine) probeRead() error {
	n, err := m.get(asm.R2)
	if err != nil {
		return err
	}
	addr, err := m.get(asm.R3)
	if err != nil {
		return err
	}
	if m.regs[asm.R1].kind != stackPtr {
		return fmt.Errorf("reads to somewhere else than the stack")
	}
	i := int64(m.regs[asm.R1].v) - (stackAddr - stackSize)
	if n == 0 || i < 0 || i+int64(n) > stackSize {
		return fmt.Errorf("reads %d bytes to the stack at %d", n, i-stackSize)
	}
	for _, ok := range m.inited[i : i+int64(n)] {
		if !ok && n > 4 {
			return fmt.Errorf("reads a varying size to stack that was not written")
		}
	}
	src, err := m.packetBytes(addr, int(n))
	if err != nil {
		return err
	}
	copy(m.stack[i:], src)
	for j := range src {
		m.inited[i+int64(j)] = true
	}
	return nil
}

func (m *machine) jump(ins asm.Instruction) (bool, error) {
	op := ins.OpCode.JumpOp()
	if op == asm.Ja {
		return true, nil
	}
	a, err := m.get(ins.Dst)
	if err != nil {
		return false, err
	}
	w, err := m.operand(ins)
	if err != nil || w.kind != scalar {
		return false, fmt.Errorf("compares with no scalar: %w", err)
	}
	b := w.v
	if ins.OpCode.Class() == asm.Jump32Class {
		a, b = uint64(uint32(a)), uint64(uint32(b))
	}
	switch op {
	case asm.JEq:
		return a == b, nil
	case asm.JNE:
		return a != b, nil
	case asm.JGT:
		return a > b, nil
	case asm.JGE:
		return a >= b, nil
	case asm.JLT:
		return a < b, nil
	case asm.JLE:
		return a <= b, nil
	case asm.JSet:
		return a&b != 0, nil
	}
	return false, fmt.Errorf("condition %v is not emitted", op)
}
