package filter

import (
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// windowBytes bounds what LoadProbe copies at once: enough for an Ethernet
// header, an IPv6 header and the ports, and small beside the 512 bytes of
// stack that a call chain has.
const windowBytes = 64

// window is a run of packet bytes that a LoadProbe program copies to its stack
// before it starts, because one call of the helper for all constant offsets is
// cheaper than one for each. The zero window holds nothing.
type window struct {
	start, end uint32 // packet offsets
	stack      int16  // stack offset of the byte at start
}

// holds reports whether size bytes at a packet offset are in the window.
func (w window) holds(offset, size uint32) bool {
	return offset >= w.start && offset+size <= w.end
}

// constantLoads returns the loads at near constant offsets that can be reached.
func constantLoads(raw []bpf.RawInstruction, use usage) []bpf.RawInstruction {
	var loads []bpf.RawInstruction
	for i, ins := range raw {
		mode := ins.Op & modeMask
		class := ins.Op & classMask
		if use.reachable[i] && class <= unix.BPF_LDX && ins.K < nearLimit &&
			(mode == unix.BPF_ABS || mode == unix.BPF_MSH) {
			loads = append(loads, ins)
		}
	}
	return loads
}

// findWindow returns the window from the lowest constant offset on; empty if
// it would serve a single load.
func findWindow(loads []bpf.RawInstruction) window {
	var w window
	for i, ins := range loads {
		if i == 0 || ins.K < w.start {
			w.start = ins.K
		}
	}
	served := 0
	for _, ins := range loads {
		if end := ins.K + loadSize(ins); end <= w.start+windowBytes {
			w.end = max(w.end, end)
			served++
		}
	}
	if served < 2 {
		return window{}
	}
	return w
}

// padding returns how far from an aligned stack offset the window should start
// so that most loads are aligned: the verifier takes no other stack access.
func (w window) padding(loads []bpf.RawInstruction) uint32 {
	best, most := uint32(0), -1
	for pad := range uint32(4) {
		aligned := 0
		for _, ins := range loads {
			if (ins.K-w.start+pad)%loadSize(ins) == 0 {
				aligned++
			}
		}
		if aligned > most {
			best, most = pad, aligned
		}
	}
	return best
}

// openWindow emits the copy of what the packet has of the window. A size that
// varies obliges the program to initialise all of it.
func (t *translator) openWindow() {
	loads := constantLoads(t.raw, t.use)
	w := findWindow(loads)
	if w.end == 0 {
		return
	}
	pad := int16(w.padding(loads))
	bottom := t.allocate(8)
	for t.stackTop+pad+int16(w.end-w.start) > bottom+8 {
		t.allocate(8)
	}
	for off := t.stackTop; off <= bottom; off += 8 {
		t.emit(zeroStack(off))
	}
	w.stack = t.stackTop + pad
	t.window = w

	nothing := len(t.out) // jumps over the copy
	t.emit(bare(asm.JLE.Imm(regCaplen, int32(w.start), "")))
	t.emit(asm.Mov.Reg(asm.R2, regCaplen))
	fits := bare(asm.JLE.Imm(asm.R2, int32(w.end), ""))
	fits.Offset = 1
	t.emit(
		fits,
		asm.Mov.Imm(asm.R2, int32(w.end)),
		asm.Add.Imm(asm.R2, -int32(w.start)),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(w.stack)),
		asm.Mov.Reg(asm.R3, regBase),
		asm.Add.Imm(asm.R3, int32(w.start)),
		asm.FnProbeReadKernel.Call(),
	)
	t.jumpTo(asm.JNE.Imm(asm.R0, 0, ""), reject)
	t.out[nothing].Offset = int16(len(t.out) - nothing - 1)
}

// readStack loads size bytes in network byte order from the stack into dst, in
// aligned pieces. It may use the scratch registers from tmp on.
func (t *translator) readStack(dst, tmp asm.Register, off int16, size uint32) {
	if off%int16(size) == 0 {
		t.emit(asm.LoadMem(dst, asm.RFP, off, memSize(size)))
		t.toHost(dst, size)
		return
	}
	half := size / 2
	t.readStack(dst, tmp, off, half)
	t.emit(asm.LSh.Imm32(dst, int32(8*half)))
	t.readStack(tmp, tmp+1, off+int16(half), half)
	t.emit(asm.Or.Reg32(dst, tmp))
}

// zeroStack clears 8 bytes of stack: BPF_ST | BPF_MEM | BPF_DW, for which asm
// has no constructor.
func zeroStack(off int16) asm.Instruction {
	return asm.Instruction{
		OpCode: asm.OpCode(asm.StClass).SetMode(asm.MemMode).SetSize(asm.DWord),
		Dst:    asm.RFP,
		Offset: off,
	}
}
