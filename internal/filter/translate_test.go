package filter

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// modes are the options under which every translation is tested.
func modes() []Options {
	return []Options{
		{Mode: LoadProbe},
		{Mode: LoadDirect, Direct: Direct{KfuncID: 1234, TypeID: 567, TypeSize: 16}},
	}
}

func assemble(t testing.TB, insns ...bpf.Instruction) []bpf.RawInstruction {
	t.Helper()
	raw, err := bpf.Assemble(insns)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// reference returns what golang.org/x/net/bpf says of a packet.
func reference(t testing.TB, raw []bpf.RawInstruction, packet []byte) uint64 {
	t.Helper()
	if len(raw) == 0 {
		return 1
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("cannot disassemble %v", raw)
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		return 0
	}
	return 1
}

func TestInstructionsGolden(t *testing.T) {
	programs := map[string][]bpf.RawInstruction{
		"empty":  nil,
		"reject": rejectAll(),
		"tcp_port_443": assemble(t,
			bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x800, SkipFalse: 10},
			bpf.LoadAbsolute{Off: 23, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipFalse: 8},
			bpf.LoadAbsolute{Off: 20, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 6},
			bpf.LoadMemShift{Off: 14},
			bpf.LoadIndirect{Off: 14, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 443, SkipTrue: 2},
			bpf.LoadIndirect{Off: 16, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 443, SkipFalse: 1},
			bpf.RetConstant{Val: 262144},
			bpf.RetConstant{},
		),
		"one_load": assemble(t,
			bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.RetA{},
		),
		"two_loads": assemble(t,
			bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x800, SkipFalse: 3},
			bpf.LoadAbsolute{Off: 26, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x08080808, SkipFalse: 1},
			bpf.RetConstant{Val: 262144},
			bpf.RetConstant{},
		),
		"length_and_scratch": assemble(t,
			bpf.LoadExtension{Num: bpf.ExtLen},
			bpf.StoreScratch{Src: bpf.RegA, N: 3},
			bpf.LoadAbsolute{Off: 2, Size: 4},
			bpf.LoadScratch{Dst: bpf.RegX, N: 3},
			bpf.ALUOpX{Op: bpf.ALUOpDiv},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xff},
			bpf.RetA{},
		),
	}
	for name, raw := range programs {
		for _, o := range modes() {
			t.Run(name+"/"+o.Mode.String(), func(t *testing.T) {
				body, err := (&Program{Expression: name, L2: raw}).Instructions(L2, o)
				if err != nil {
					t.Fatal(err)
				}
				compareGolden(t, name+"."+o.Mode.String()+".txt", fmt.Sprintf("%v", body))
			})
		}
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("instructions (-want +got):\n%s", diff)
	}
}

// agree translates raw in both modes and compares with the reference on a
// packet, of which the filter may read all.
func agree(t testing.TB, name string, raw []bpf.RawInstruction, bodies []asm.Instructions, packet []byte) {
	t.Helper()
	want := reference(t, raw, packet)
	for i, o := range modes() {
		got, err := run(bodies[i], o, packet, uint32(len(packet)))
		if err != nil || got != want {
			t.Fatalf("%s, %s, packet %x: got %d, %v; want %d\n%v\n%v", name, o.Mode, packet, got, err, want, raw, bodies[i])
		}
	}
}

func translateModes(t testing.TB, raw []bpf.RawInstruction) []asm.Instructions {
	t.Helper()
	var bodies []asm.Instructions
	for _, o := range modes() {
		body, err := (&Program{L2: raw}).Instructions(L2, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkGraph(body); err != nil {
			t.Fatalf("%s: %v\n%v\n%v", o.Mode, err, raw, body)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// TestSemantics covers what golang.org/x/net/bpf's machine does not do, or does
// differently from the kernel.
func TestSemantics(t *testing.T) {
	const wirelen = 1514
	imm := bpf.RawInstruction{Op: unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN}
	retIf := func(cond bpf.JumpTest, v uint32) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.JumpIf{Cond: cond, Val: v, SkipFalse: 1}, bpf.RetConstant{Val: 1}, bpf.RetConstant{},
		}
	}
	tests := map[string]struct {
		insns []bpf.Instruction
		want  uint64
	}{
		"neg": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegA, Val: 5}, bpf.NegateA{},
		}, retIf(bpf.JumpEqual, 0xfffffffb)...), 1},
		"ldx len is the wire length": {append([]bpf.Instruction{
			imm, bpf.TXA{},
		}, retIf(bpf.JumpEqual, wirelen)...), 1},
		"ld len is the wire length": {append([]bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtLen},
		}, retIf(bpf.JumpEqual, wirelen)...), 1},
		"shift left by 33 uses five bits": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegA, Val: 3},
			bpf.LoadConstant{Dst: bpf.RegX, Val: 33},
			bpf.ALUOpX{Op: bpf.ALUOpShiftLeft},
		}, retIf(bpf.JumpEqual, 6)...), 1},
		"shift right by 32 uses five bits": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegA, Val: 3},
			bpf.LoadConstant{Dst: bpf.RegX, Val: 32},
			bpf.ALUOpX{Op: bpf.ALUOpShiftRight},
		}, retIf(bpf.JumpEqual, 3)...), 1},
		"caplen and not the wire length bounds loads": {append([]bpf.Instruction{
			bpf.LoadAbsolute{Off: 4, Size: 1},
		}, retIf(bpf.JumpGreaterOrEqual, 0)...), 0},
		"a sum of offsets does not wrap": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegX, Val: 0xffffffff},
			bpf.LoadIndirect{Off: 1, Size: 1},
		}, retIf(bpf.JumpGreaterOrEqual, 0)...), 0},
		"a negative displacement does not wrap": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegX, Val: 2},
			bpf.LoadIndirect{Off: 0xffffffff, Size: 1},
		}, retIf(bpf.JumpGreaterOrEqual, 0)...), 0},
		"comparisons are unsigned": {append([]bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegA, Val: 1},
		}, retIf(bpf.JumpGreaterThan, 0x80000000)...), 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for i, body := range translateModes(t, assemble(t, tc.insns...)) {
				got, err := run(body, modes()[i], []byte{1, 2, 3, 4}, wirelen)
				if err != nil || got != tc.want {
					t.Errorf("%s: got %d, %v; want %d\n%v", modes()[i].Mode, got, err, tc.want, body)
				}
			}
		})
	}
}

func TestInstructionsRefuses(t *testing.T) {
	ret := bpf.RawInstruction{Op: opRetK}
	tests := map[string]struct {
		raw  []bpf.RawInstruction
		want string
	}{
		"ancillary load":    {[]bpf.RawInstruction{{Op: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 0xfffff000}, ret}, errAncillary.Error()},
		"backward jump":     {[]bpf.RawInstruction{{Op: opJa, K: 0xffffffff}, ret}, errLoop.Error()},
		"jump past the end": {[]bpf.RawInstruction{{Op: opJa, K: 1}, ret}, "past the end"},
		"no return":         {[]bpf.RawInstruction{{Op: unix.BPF_LD | unix.BPF_IMM}}, "past the end"},
		"constant zero":     {[]bpf.RawInstruction{{Op: unix.BPF_ALU | unix.BPF_DIV}, ret}, "division by the constant zero"},
		"wide shift":        {[]bpf.RawInstruction{{Op: unix.BPF_ALU | unix.BPF_LSH, K: 32}, ret}, "32 bits or more"},
		"scratch slot":      {[]bpf.RawInstruction{{Op: unix.BPF_ST, K: 16}, ret}, "slot 16"},
		"unknown opcode":    {[]bpf.RawInstruction{{Op: unix.BPF_LD | unix.BPF_DW}, ret}, "opcode 0x0018"},
		"too long":          {tooLong(), "shorten the expression"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := (&Program{Expression: "x", L2: tc.raw}).Instructions(L2, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if _, err := (&Program{L2: []bpf.RawInstruction{ret}}).Instructions(L2, Options{Mode: LoadDirect}); err == nil {
		t.Error("direct loads without ids: no error")
	}
}

func tooLong() []bpf.RawInstruction {
	raw := make([]bpf.RawInstruction, 6000, 6001)
	for i := range raw {
		raw[i] = bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_IND}
	}
	return append(raw, bpf.RawInstruction{Op: opRetK})
}

// decodeProgram builds a valid classic program out of any bytes, four an
// instruction. Variable shifts are left out, see TestSemantics.
func decodeProgram(data []byte) []bpf.RawInstruction {
	sizes := []uint16{unix.BPF_W, unix.BPF_H, unix.BPF_B}
	alus := []uint16{unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_DIV, unix.BPF_OR, unix.BPF_AND, unix.BPF_MOD, unix.BPF_XOR}
	jumps := []uint16{unix.BPF_JEQ, unix.BPF_JGT, unix.BPF_JGE, unix.BPF_JSET}
	n := min(len(data)/4, 60)
	raw := make([]bpf.RawInstruction, 0, n+2)
	for i := range n {
		d := data[4*i : 4*i+4]
		k := uint32(d[2] & 0x3f)
		if d[3]&0xc0 == 0xc0 {
			k = binary.BigEndian.Uint32(d) >> (d[3] & 31)
		}
		b := bpf.RawInstruction{K: k}
		left := n - i // to the first of the two returns
		switch d[0] % 14 {
		case 0, 1, 2:
			b.Op, b.K = unix.BPF_LD|unix.BPF_ABS|sizes[d[1]%3], k&0x7fffffff
		case 3, 4:
			b.Op = unix.BPF_LD | unix.BPF_IND | sizes[d[1]%3]
		case 5:
			b.Op, b.K = opMsh, k&0x7fffffff
		case 6:
			b.Op = []uint16{unix.BPF_LD, unix.BPF_LDX}[d[1]%2] | unix.BPF_IMM
		case 7:
			b.Op, b.K = []uint16{unix.BPF_LD, unix.BPF_LDX}[d[1]%2]|unix.BPF_MEM, k%16
		case 8:
			b.Op, b.K = []uint16{unix.BPF_ST, unix.BPF_STX}[d[1]%2], k%16
		case 9:
			b.Op, b.K = unix.BPF_ALU|alus[d[1]%8], max(k, 1)
		case 10:
			b.Op, b.K = unix.BPF_ALU|alus[d[1]%8]|unix.BPF_X, 0
			if d[3] < 0xc0 { // division by X mostly ends a program
				b.Op = unix.BPF_ALU | []uint16{unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_OR, unix.BPF_AND, unix.BPF_XOR}[d[1]%6] | unix.BPF_X
			}
		case 11:
			b.Op, b.K = []uint16{unix.BPF_MISC | unix.BPF_TAX, unix.BPF_MISC | unix.BPF_TXA, unix.BPF_LD | opLen}[d[1]%3], 0
		case 12:
			b.Op, b.Jt, b.Jf = unix.BPF_JMP|jumps[d[1]%4]|uint16(d[1]>>4&1)<<3, d[2]%uint8(left+1), d[3]%uint8(left+1)
		case 13:
			b.Op, b.K = opJa, uint32(d[1])%uint32(left+1)
			if d[2] < 64 {
				b.Op, b.K = opRetA, 0
			}
		}
		raw = append(raw, b)
	}
	return append(raw, bpf.RawInstruction{Op: opRetA}, bpf.RawInstruction{Op: opRetK, K: uint32(len(data) & 1)})
}

func TestRandomPrograms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := packets()
	matched := 0
	for i := range 5000 {
		data := make([]byte, 4*(1+rnd.IntN(24)))
		for j := range data {
			data[j] = byte(rnd.Uint32())
		}
		raw := decodeProgram(data)
		bodies := translateModes(t, raw)
		for range 6 {
			p := all[rnd.IntN(len(all))].frame
			agree(t, fmt.Sprint("random ", i), raw, bodies, p)
			matched += int(reference(t, raw, p))
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches: the programs are too trivial to prove anything", matched)
	}
}

func FuzzInstructions(f *testing.F) {
	f.Add([]byte{0, 1, 12, 0, 12, 0, 1, 2}, packets()[0].frame)
	f.Fuzz(func(t *testing.T, program, packet []byte) {
		raw := decodeProgram(program)
		agree(t, "fuzz", raw, translateModes(t, raw), packet)
	})
}

// FuzzAnalyse feeds arbitrary classic programs: refused or translated, never a
// panic or a body that the verifier would refuse for its control flow.
func FuzzAnalyse(f *testing.F) {
	f.Add([]byte{0x28, 0, 0, 0, 0, 0, 0, 12, 0x06, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw []bpf.RawInstruction
		for ; len(data) >= 8; data = data[8:] {
			raw = append(raw, bpf.RawInstruction{
				Op: binary.LittleEndian.Uint16(data), Jt: data[2], Jf: data[3], K: binary.BigEndian.Uint32(data[4:]),
			})
		}
		for _, o := range modes() {
			body, err := (&Program{L2: raw}).Instructions(L2, o)
			if err != nil {
				continue
			}
			if err := checkGraph(body); err != nil {
				t.Fatal(err)
			}
			if _, err := run(body, o, []byte("some packet bytes to read from"), 99); err != nil {
				t.Fatalf("%v\n%v\n%v", err, raw, body)
			}
		}
	})
}
