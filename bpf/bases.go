package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// MemoryBases are the kernel addresses of the variables that say where its map of all
// memory, and its array of struct page, begin: page_offset_base and vmemmap_base
// (https://docs.kernel.org/arch/x86/x86_64/mm.html). By them the data of a packet are
// found that lie in pages. The zero value: they are not known.
type MemoryBases struct{ PageOffset, Vmemmap uint64 }

// LookUpMemoryBases asks the kernel, which takes less than reading all of its symbols
// does (bpf_kallsyms_lookup_name, Linux 5.16,
// https://git.kernel.org/torvalds/c/d6aef08a872b). Before, the error is
// ebpf.ErrNotSupported.
func LookUpMemoryBases() (b MemoryBases, err error) {
	found, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		return b, fmt.Errorf("make a map for symbols: %w", err)
	}
	defer func() { _ = found.Close() }() // nothing is lost with it
	code := lookUp(found.FD(), 0, "page_offset_base")
	code = append(code, lookUp(found.FD(), 8, "vmemmap_base")...)
	code = append(code, asm.Mov.Imm(asm.R0, 0), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "memory_bases", Type: ebpf.Syscall, License: "Dual BSD/GPL", Flags: unix.BPF_F_SLEEPABLE, Instructions: code,
	})
	if errors.Is(err, unix.EINVAL) { // a kind of program, or a helper, that the kernel does not know
		err = ebpf.ErrNotSupported
	}
	if err != nil {
		return b, fmt.Errorf("load a program that looks symbols up: %w", err)
	}
	defer func() { _ = program.Close() }() // as above
	if _, err := program.Run(&ebpf.RunOptions{}); err != nil {
		return b, fmt.Errorf("look symbols up: %w", err)
	}
	values := [2]uint64{}
	if err := found.Lookup(uint32(0), &values); err != nil {
		return b, fmt.Errorf("read the symbols that were looked up: %w", err)
	}
	return MemoryBases{values[0], values[1]}, nil
}

// lookUp writes the address of a symbol, 0 if there is none, into a map's value.
func lookUp(mapFD int, offset uint32, symbol string) asm.Instructions {
	const name, address = -32, -8 // on the stack
	var bytes [24]byte
	copy(bytes[:len(bytes)-1], symbol)
	var code asm.Instructions
	for i := 0; i < len(bytes); i += 8 {
		code = append(code, asm.LoadImm(asm.R1, int64(u64(bytes[i:])), asm.DWord),
			asm.StoreMem(asm.RFP, int16(name+i), asm.R1, asm.DWord))
	}
	return append(code,
		asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, address, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, name),
		asm.Mov.Imm(asm.R2, int32(len(symbol)+1)),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Reg(asm.R4, asm.RFP), asm.Add.Imm(asm.R4, address),
		asm.FnKallsymsLookupName.Call(),
		asm.LoadMem(asm.R2, asm.RFP, address, asm.DWord),
		asm.LoadMapValue(asm.R1, mapFD, offset),
		asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
	)
}
