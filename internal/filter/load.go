package filter

import (
	"math"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// prepareLoads brings the address of byte 0 (in R1) to where loads need it.
func (t *translator) prepareLoads() {
	if t.opts.Mode == LoadProbe {
		t.emit(asm.Mov.Reg(regBase, asm.R1))
		t.bufferOff = t.allocate(8)
		t.openWindow()
		return
	}
	t.emit(asm.Add.Imm(asm.R1, -int32(t.opts.Direct.TypeSize)))
	if t.use.computed {
		t.dataOff = t.allocate(8)
		t.emit(asm.StoreMem(asm.RFP, t.dataOff, asm.R1, asm.DWord))
	}
	if t.use.near {
		t.cast()
		t.emit(asm.Mov.Reg(regBase, asm.R0))
	}
}

// load translates a load into A or X. known is the number of packet bytes
// proven to be there; load returns what is known after it.
func (t *translator) load(ins bpf.RawInstruction, known uint32) uint32 {
	dst := regA
	if ins.Op&classMask == unix.BPF_LDX {
		dst = regX
	}
	switch ins.Op & modeMask {
	case unix.BPF_IMM:
		t.emit(asm.Mov.Imm32(dst, int32(ins.K)))
	case unix.BPF_MEM:
		t.emit(asm.LoadMem(dst, asm.RFP, t.slotOff[ins.K], asm.Word))
	case unix.BPF_LEN:
		t.emit(asm.LoadMem(dst, asm.RFP, t.lenOff, asm.Word))
	case unix.BPF_IND:
		t.checkComputed(ins)
		t.read(dst, asm.R1, loadSize(ins))
	case unix.BPF_ABS:
		known = t.loadAbsolute(dst, ins, known)
	case unix.BPF_MSH:
		known = t.loadAbsolute(dst, ins, known)
		t.emit(asm.And.Imm32(dst, 0xf), asm.LSh.Imm32(dst, 2))
	}
	return known
}

// loadAbsolute loads from a constant offset after checking, where not already
// known, that the packet has the bytes.
func (t *translator) loadAbsolute(dst asm.Register, ins bpf.RawInstruction, known uint32) uint32 {
	size := loadSize(ins)
	end := ins.K + size // below 2^32: analyse refuses offsets from 2^31 on
	if known < end {
		t.jumpTo(asm.JLT.Imm32(regCaplen, int32(end), ""), reject)
		known = end
	}
	if t.opts.Mode == LoadDirect && ins.K < nearLimit {
		t.emit(asm.LoadMem(dst, regBase, int16(t.opts.Direct.TypeSize+ins.K), memSize(size)))
		t.toHost(dst, size)
		return known
	}
	if t.window.holds(ins.K, size) {
		t.readStack(dst, asm.R1, t.window.stack+int16(ins.K-t.window.start), size)
		return known
	}
	t.emit(asm.Mov.Imm32(asm.R1, int32(ins.K)))
	t.read(dst, asm.R1, size)
	return known
}

// checkComputed leaves the offset X+K in R1 as 64 bits, so that it cannot wrap,
// or rejects.
func (t *translator) checkComputed(ins bpf.RawInstruction) {
	t.emit(asm.Mov.Reg32(asm.R1, regX))
	switch {
	case ins.K > math.MaxInt32:
		t.emit(asm.Mov.Imm32(asm.R2, int32(ins.K)), asm.Add.Reg(asm.R1, asm.R2))
	case ins.K > 0:
		t.emit(asm.Add.Imm(asm.R1, int32(ins.K)))
	}
	t.emit(asm.Mov.Reg(asm.R2, asm.R1), asm.Add.Imm(asm.R2, int32(loadSize(ins))))
	t.jumpTo(asm.JGT.Reg(asm.R2, regCaplen, ""), reject)
}

// read loads size bytes at the checked packet offset in register off (a
// scratch register) into dst.
func (t *translator) read(dst, off asm.Register, size uint32) {
	if t.opts.Mode == LoadProbe {
		t.emit(
			asm.Mov.Reg(asm.R3, regBase),
			asm.Add.Reg(asm.R3, off),
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, int32(t.bufferOff)),
			asm.Mov.Imm(asm.R2, int32(size)),
			asm.FnProbeReadKernel.Call(),
		)
		t.jumpTo(asm.JNE.Imm(asm.R0, 0, ""), reject)
		t.emit(asm.LoadMem(dst, asm.RFP, t.bufferOff, memSize(size)))
	} else {
		t.emit(
			asm.LoadMem(asm.R2, asm.RFP, t.dataOff, asm.DWord),
			asm.Add.Reg(asm.R1, asm.R2),
		)
		t.cast()
		t.emit(asm.LoadMem(dst, asm.R0, int16(t.opts.Direct.TypeSize), memSize(size)))
	}
	t.toHost(dst, size)
}

// cast turns R1, an address less TypeSize, into a pointer in R0 that the
// verifier lets the program read from at offsets from TypeSize on, which is
// where the address was. In the kernel the call becomes a move.
func (t *translator) cast() {
	t.emit(
		asm.Mov.Imm(asm.R2, int32(t.opts.Direct.TypeID)),
		t.opts.Direct.call(),
	)
}

// toHost converts size bytes in dst from network byte order.
func (t *translator) toHost(dst asm.Register, size uint32) {
	if size > 1 {
		t.emit(asm.HostTo(asm.BE, dst, memSize(size)))
	}
}

func memSize(bytes uint32) asm.Size {
	switch bytes {
	case 1:
		return asm.Byte
	case 2:
		return asm.Half
	}
	return asm.Word
}
