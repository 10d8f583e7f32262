package filter

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

func u32Func(name string) *btf.Func {
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	u64 := &btf.Int{Name: "unsigned long long", Size: 8}
	return &btf.Func{Name: name, Linkage: btf.StaticFunc, Type: &btf.FuncProto{
		Return: u32,
		Params: []btf.FuncParam{{Name: "data", Type: u64}, {Name: "caplen", Type: u32}, {Name: "wirelen", Type: u32}},
	}}
}

// function builds a function that only returns value, with BTF and a source
// line on every instruction, as an ELF would.
func function(name string, value int32) asm.Instructions {
	line := func(n int) asm.Comment { return asm.Comment(fmt.Sprintf("%s line %d", name, n)) }
	head := asm.Mov.Imm(asm.R0, value).WithSymbol(name).WithSource(line(1))
	return asm.Instructions{
		btf.WithFuncMetadata(head, u32Func(name)),
		asm.Return().WithSource(line(2)),
	}
}

func callOf(name string) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference(name)
}

func caller() *ebpf.ProgramSpec {
	var insns asm.Instructions
	insns = append(insns, callOf(SymbolL2).WithSymbol("prog"), callOf(SymbolL3), asm.Return())
	insns = append(insns, function(SymbolL2, 7)...)
	insns = append(insns, function("other", 8)...)
	insns = append(insns, function(SymbolL3, 9)...)
	return &ebpf.ProgramSpec{Name: "prog", Type: ebpf.SocketFilter, License: "GPL", Instructions: insns}
}

func TestInject(t *testing.T) {
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
		"prog": caller(),
		"none": {Name: "none", Instructions: function("none", 1)},
	}}
	p := &Program{Expression: "x", L2: rejectAll()}
	for range 2 { // a second filter replaces the first
		if err := Inject(spec, p, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, ins := range spec.Programs["prog"].Instructions {
		fn, line := "", ""
		if f := btf.FuncMetadata(&ins); f != nil {
			fn = f.Name
		}
		if ins.Source() != nil {
			line = ins.Source().String()
		}
		got = append(got, fmt.Sprintf("%s|%s|%s|%v", ins.Symbol(), fn, line, ins))
	}
	want := []string{
		"prog|||Call -1 <filter_l2>", "|||Call -1 <filter_l3>", "|||Exit",
		"filter_l2|filter_l2|filter_l2 line 1|MovImm dst: r0 imm: 0", "|||Exit",
		"other|other|other line 1|MovImm dst: r0 imm: 8", "||other line 2|Exit",
		"filter_l3|filter_l3|filter_l3 line 1|MovImm dst: r0 imm: 1", "|||Exit",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("instructions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(2, len(spec.Programs["none"].Instructions)); diff != "" {
		t.Errorf("a program without filter changed:\n%s", diff)
	}
}

func TestInjectTunnel(t *testing.T) {
	prog := caller()
	prog.Instructions = append(prog.Instructions, function(SymbolTunnelL2, 10)...)
	prog.Instructions = append(prog.Instructions, function(SymbolTunnelL3, 11)...)
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"prog": prog}}
	if err := InjectTunnel(spec, &Program{Expression: "x", L2: rejectAll()}, Options{}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for i, ins := range prog.Instructions {
		if ins.Symbol() != "" && i > 0 {
			got[ins.Symbol()] = ins.Constant
		}
	}
	want := map[string]int64{SymbolL2: 7, "other": 8, SymbolL3: 9, SymbolTunnelL2: 0, SymbolTunnelL3: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results by subprogram (-want +got):\n%s", diff)
	}
	bare := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"prog": caller()}}
	if err := InjectTunnel(bare, &Program{}, Options{}); !errors.Is(err, ErrNoFilter) {
		t.Errorf("programs without the subprograms: error %v", err)
	}
}

func TestInjectErrors(t *testing.T) {
	none := &ebpf.ProgramSpec{Name: "none", Instructions: function("none", 1)}
	if err := InjectProgram(none, &Program{}, Options{}); !errors.Is(err, ErrNoFilter) {
		t.Errorf("no filter subprogram: error %v", err)
	}
	coll := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"none": none}}
	if err := Inject(coll, &Program{}, Options{}); !errors.Is(err, ErrNoFilter) {
		t.Errorf("no filter subprogram in the collection: error %v", err)
	}
	itself := &ebpf.ProgramSpec{Name: SymbolL2, Instructions: function(SymbolL2, 1)}
	if err := InjectProgram(itself, &Program{}, Options{}); err == nil {
		t.Error("the filter as entry point: no error")
	}
	spec := caller()
	before := len(spec.Instructions)
	if err := InjectProgram(spec, &Program{L3: rejectAll()}, Options{Mode: LoadDirect}); err == nil {
		t.Error("direct loads without ids: no error")
	}
	if len(spec.Instructions) != before {
		t.Error("a failed injection changed the program")
	}
}
