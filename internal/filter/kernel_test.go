//go:build vm && cgo

package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// These tests load translated filters into the running kernel and compare its
// verdicts with the reference machine. They need root:
//
//	go test -tags vm -c ./internal/filter && ./filter.test -test.run Kernel
//
// The packet lies in a map value, whose address the program reads as a scalar.
const (
	inAddr    = 0 // u64, written by the program
	inCaplen  = 8
	inWirelen = 12
	inPacket  = 17 // odd on purpose
	inSize    = 4096
)

func kernelModes(t *testing.T) []Options {
	t.Helper()
	modes := []Options{{Mode: LoadProbe}}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	direct, err := ResolveDirect(spec)
	if errors.Is(err, btf.ErrNotFound) {
		t.Logf("direct loads not tested: %v", err)
		return modes
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(modes, Options{Mode: LoadDirect, Direct: direct})
}

// harness returns a program that calls one of the filters on the map's packet.
func harness(kind ebpf.ProgramType, symbol string, m *ebpf.Map) *ebpf.ProgramSpec {
	main := asm.Instructions{
		asm.LoadMapValue(asm.R6, m.FD(), 0).WithSymbol("main").WithSource(asm.Comment("main")),
		asm.StoreMem(asm.R6, inAddr, asm.R6, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, inAddr, asm.DWord),
		asm.Add.Imm(asm.R1, inPacket),
		asm.LoadMem(asm.R2, asm.R6, inCaplen, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, inWirelen, asm.Word),
		callOf(symbol),
		asm.Return(),
	}
	main[0] = btf.WithFuncMetadata(main[0], &btf.Func{Name: "main", Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}},
	}})
	main = append(main, function(symbol, 1)...)
	return &ebpf.ProgramSpec{Name: "main", Type: kind, License: "GPL", Instructions: main}
}

func newInput(t testing.TB) *ebpf.Map {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: inSize, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, m)
	return m
}

func load(t testing.TB, kind ebpf.ProgramType, m *ebpf.Map, p *Program, l Layer, o Options) *ebpf.Program {
	t.Helper()
	spec := harness(kind, "filter_"+l.String(), m)
	if err := InjectProgram(spec, p, o); err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatalf("load %q at %s, %s, as %s: %+v", p.Expression, l, o.Mode, kind, err)
	}
	return prog
}

func TestKernelAgreesWithReference(t *testing.T) {
	m, all := newInput(t), packets()
	for _, o := range kernelModes(t) {
		for _, expr := range expressions() {
			t.Run(fmt.Sprint(o.Mode, "/", expr), func(t *testing.T) {
				p, err := Compile(expr)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range []Layer{L2, L3} {
					prog := load(t, ebpf.SocketFilter, m, p, l, o)
					closeLater(t, prog)
					for _, pk := range all {
						want := uint32(reference(t, p.classic(l), pk.from(l)))
						if got := verdict(t, prog, m, pk.from(l)); got != want {
							t.Errorf("%s at %s: got %d, want %d", pk.name, l, got, want)
						}
					}
				}
			})
		}
	}
}

func verdict(t testing.TB, prog *ebpf.Program, m *ebpf.Map, packet []byte) uint32 {
	t.Helper()
	value := make([]byte, inSize)
	for i := range value {
		value[i] = 0xa5 // what lies behind the packet must not matter
	}
	binary.NativeEndian.PutUint32(value[inCaplen:], uint32(len(packet)))
	binary.NativeEndian.PutUint32(value[inWirelen:], uint32(len(packet)))
	copy(value[inPacket:], packet)
	if err := m.Put(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	ret, _, err := prog.Test(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	return ret
}

// TestKernelRandomPrograms gives the verifier shapes that libpcap never makes.
func TestKernelRandomPrograms(t *testing.T) {
	m, all := newInput(t), packets()
	for _, o := range kernelModes(t) {
		rnd, matched := rand.New(rand.NewPCG(3, 4)), 0
		for i := range 300 {
			data := make([]byte, 4*(1+rnd.IntN(16)))
			for j := range data {
				data[j] = byte(rnd.Uint32())
			}
			p := &Program{Expression: fmt.Sprint("random ", i), L2: decodeProgram(data)}
			prog := load(t, ebpf.SocketFilter, m, p, L2, o)
			for range 4 {
				pk := all[rnd.IntN(len(all))]
				want := uint32(reference(t, p.L2, pk.frame))
				if got := verdict(t, prog, m, pk.frame); got != want {
					t.Errorf("%s on %s, %s: got %d, want %d\n%v", p.Expression, pk.name, o.Mode, got, want, p.L2)
				}
				matched += int(want)
			}
			closeLater(t, prog)
		}
		if matched < 100 || matched > 1100 {
			t.Errorf("%d of 1200 match: the programs are too trivial to prove anything", matched)
		}
	}
}

// TestKernelProgramTypes loads filters as the types that packets are traced by.
func TestKernelProgramTypes(t *testing.T) {
	m := newInput(t)
	p, err := Compile("len > 60 and ip[2:2] / ip[8] > 1 and tcp port 443")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range kernelModes(t) {
		for _, kind := range []ebpf.ProgramType{ebpf.Kprobe, ebpf.RawTracepoint, ebpf.SchedCLS, ebpf.XDP} {
			for _, l := range []Layer{L2, L3} {
				closeLater(t, load(t, kind, m, p, l, o))
			}
		}
	}
}

// TestKernelUnmappedAddress reads from an address where nothing is mapped.
func TestKernelUnmappedAddress(t *testing.T) {
	m := newInput(t)
	p, err := Compile("ether[0] == 0 or udp[0] == 0")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range kernelModes(t) {
		spec := harness(ebpf.SocketFilter, SymbolL2, m)
		spec.Instructions[3] = asm.LoadImm(asm.R1, -0x7ff0_0000_1000, asm.DWord) // a hole before vmalloc space
		if err := InjectProgram(spec, p, o); err != nil {
			t.Fatal(err)
		}
		prog, err := ebpf.NewProgram(spec)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, prog)
		// Direct loads read zero, the helper's failure rejects.
		want := uint32(0)
		if o.Mode == LoadDirect {
			want = 1
		}
		if got := verdict(t, prog, m, make([]byte, 60)); got != want {
			t.Errorf("%s: got %d, want %d", o.Mode, got, want)
		}
	}
}

// BenchmarkKernel reports the nanoseconds that one call of the harness takes
// on a TCP packet that the expression does not match.
func BenchmarkKernel(b *testing.B) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		b.Fatal(err)
	}
	modes := []Options{{Mode: LoadProbe}}
	if direct, err := ResolveDirect(spec); err == nil {
		modes = append(modes, Options{Mode: LoadDirect, Direct: direct})
	}
	m := newInput(b)
	for _, expr := range []string{"", "host 1.2.3.4", "tcp port 12345", "host 2001:db8::9", "udp"} {
		p, err := Compile(expr)
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range modes {
			b.Run(o.Mode.String()+"/"+expr, func(b *testing.B) {
				prog := load(b, ebpf.SocketFilter, m, p, L2, o)
				defer prog.Close()
				verdict(b, prog, m, packets()[0].frame)
				_, perRun, err := prog.Benchmark(make([]byte, 64), 1_000_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(perRun.Nanoseconds()), "ns/call")
			})
		}
	}
}

// closeLater closes what a test has made when the test is over.
func closeLater(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
