package probe

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel/btftest"
)

// types are those that the functions of a test are made of.
type types struct {
	*btftest.Builder
	integer, unsigned, boolean, wide         uint32
	skb, skbPtr, constPtr, aliasPtr, skbPtr2 uint32
	devPtr, pair, large                      uint32
}

func newTypes() *types {
	b := &types{Builder: &btftest.Builder{}}
	b.integer = b.Int("int", 4, 1)
	b.unsigned = b.Int("unsigned int", 4, 0)
	b.boolean = b.Int("_Bool", 1, 4)
	b.wide = b.Int("__int128", 16, 1)
	b.skb = b.Struct("sk_buff", 232)
	b.skbPtr = b.Ref(kernel.BTFPtr, "", b.skb)
	b.constPtr = b.Ref(kernel.BTFPtr, "", b.Ref(kernel.BTFConst, "", b.Ref(kernel.BTFVolatile, "", b.skb)))
	alias := b.Ref(kernel.BTFTypedef, "packet_t", b.Ref(kernel.BTFTypeTag, "rcu", b.skb))
	b.aliasPtr = b.Ref(kernel.BTFRestrict, "", b.Ref(kernel.BTFConst, "", b.Ref(kernel.BTFPtr, "", alias)))
	b.skbPtr2 = b.Ref(kernel.BTFPtr, "", b.Ref(kernel.BTFConst, "", b.skbPtr))
	b.devPtr = b.Ref(kernel.BTFPtr, "", b.Struct("sk_buff_head", 24))
	b.pair = b.Struct("sockptr_t", 16)
	b.large = b.Struct("large", 40)
	return b
}

func scan(t testing.TB, arch string, b *btftest.Builder) []Candidate {
	t.Helper()
	raw, err := kernel.ParseRawBTF(b.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewScanner(raw, arch)
	if err != nil {
		t.Fatal(err)
	}
	return s.Scan("", raw)
}

func TestScan(t *testing.T) {
	b := newTypes()
	b.Func("none", b.integer, b.integer, b.devPtr)
	b.Func("by_value", b.integer, b.skb)
	b.Func("three_deep", b.integer, b.Ref(kernel.BTFPtr, "", b.skbPtr2))
	b.Func("plain", 0, b.skbPtr)
	b.Func("const_volatile", b.integer, b.integer, b.constPtr)
	b.Func("alias", b.boolean, b.aliasPtr)
	b.Func("indirect", b.unsigned, b.boolean, b.skbPtr2)
	b.Func("two", b.skbPtr, b.skbPtr, b.constPtr)
	b.Func("variadic", b.devPtr, b.skbPtr, 0)
	b.Func("pair_returned", b.pair, b.skbPtr)

	want := []Candidate{
		{Name: "plain", Skbs: []SkbArg{{Register: 0}}, Return: Return{Kind: ReturnVoid}},
		{Name: "const_volatile", Skbs: []SkbArg{{Register: 1}}, Return: Return{ReturnSigned, 32}},
		{Name: "alias", Skbs: []SkbArg{{Register: 0}}, Return: Return{ReturnBool, 8}},
		{Name: "indirect", Skbs: []SkbArg{{Register: 1, Indirect: true}}, Return: Return{ReturnUnsigned, 32}},
		{Name: "two", Skbs: []SkbArg{{Register: 0}, {Register: 1}}, Return: Return{ReturnSkb, 64}},
		{Name: "variadic", Skbs: []SkbArg{{Register: 0}}, Return: Return{ReturnPointer, 64}},
		{Name: "pair_returned", Skbs: []SkbArg{{Register: 0}}},
	}
	if diff := cmp.Diff(want, scan(t, "amd64", b.Builder)); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}

// TestScanRegisters holds the placement of arguments to what the System V and
// the AAPCS64 calling conventions say.
func TestScanRegisters(t *testing.T) {
	b := newTypes()
	tests := map[string]struct {
		before       []uint32
		amd64, arm64 int
	}{
		"first":              {nil, 0, 0},
		"sixth":              {[]uint32{b.integer, b.devPtr, b.boolean, b.integer, b.integer}, 5, 5},
		"seventh":            {slices.Repeat([]uint32{b.integer}, 6), -1, 6},
		"ninth":              {slices.Repeat([]uint32{b.integer}, 8), -1, -1},
		"after_pair":         {[]uint32{b.pair}, 2, 2},
		"after_large":        {[]uint32{b.large}, 0, 1},
		"after_wide":         {[]uint32{b.integer, b.wide}, 3, 4},
		"pair_does_not_fit":  {append(slices.Repeat([]uint32{b.integer}, 5), b.pair), 5, 7},
		"pair_exhausts":      {append(slices.Repeat([]uint32{b.integer}, 7), b.pair), -1, -1},
		"unknown_type_first": {[]uint32{1 << 20}, 0, 0},
	}
	for name, tt := range tests {
		b.Func(name, b.integer, append(slices.Clone(tt.before), b.skbPtr)...)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		found := scan(t, arch, b.Builder)
		if len(found) != len(tests) {
			t.Fatalf("%s: %d functions found of %d", arch, len(found), len(tests))
		}
		for _, c := range found {
			want := tests[c.Name].amd64
			if arch == "arm64" {
				want = tests[c.Name].arm64
			}
			if got := c.Skbs[0].Register; got != want {
				t.Errorf("%s: %s has its skb in register %d, want %d", arch, c.Name, got, want)
			}
		}
	}
}

func TestScanBTFModule(t *testing.T) {
	vmlinux := newTypes()
	vmlinux.Func("ip_rcv", vmlinux.integer, vmlinux.skbPtr)
	module := btftest.On(vmlinux.Builder)
	module.Func("veth_xmit", vmlinux.integer, vmlinux.skbPtr, vmlinux.devPtr)
	got, err := ScanBTF(vmlinux.Bytes(), module.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := []Candidate{{Name: "veth_xmit", Skbs: []SkbArg{{Register: 0}}, Return: Return{ReturnSigned, 32}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}

func TestScanBTFErrors(t *testing.T) {
	good := newTypes().Bytes()
	if _, err := ScanBTF([]byte("ELF"), nil); !errors.Is(err, kernel.ErrBadBTF) {
		t.Errorf("damaged vmlinux: error = %v", err)
	}
	if _, err := ScanBTF(good, []byte("ELF")); !errors.Is(err, kernel.ErrBadBTF) {
		t.Errorf("damaged module: error = %v", err)
	}
	raw, err := kernel.ParseRawBTF(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewScanner(raw, "s390x"); err == nil {
		t.Error("an unknown architecture gives registers")
	}
}

// vmlinux returns the BTF of the machine that runs the test.
func vmlinux(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this machine's kernel has no BTF")
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestScanAgreesWithLibrary compares with the general decoder on a real kernel.
func TestScanAgreesWithLibrary(t *testing.T) {
	found, err := ScanBTF(vmlinux(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		got = append(got, c.Name)
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for typ, err := range spec.All() {
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := typ.(*btf.Func); ok && takesSkb(f) {
			want = append(want, f.Name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 {
		t.Fatal("the library finds no function that takes an skb")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("functions (-library +ours):\n%s", diff)
	}
}

func takesSkb(f *btf.Func) bool {
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return false
	}
	for _, p := range proto.Params {
		typ, depth := btf.UnderlyingType(p.Type), 0
		for {
			ptr, ok := typ.(*btf.Pointer)
			if !ok {
				break
			}
			typ, depth = btf.UnderlyingType(ptr.Target), depth+1
		}
		if s, ok := typ.(*btf.Struct); ok && s.Name == "sk_buff" && (depth == 1 || depth == 2) {
			return true
		}
	}
	return false
}

func FuzzScanBTF(f *testing.F) {
	b := newTypes()
	b.Func("ip_rcv", b.integer, b.skbPtr, b.pair, b.large)
	module := btftest.On(b.Builder)
	module.Func("veth_xmit", b.integer, b.skbPtr2)
	f.Add(b.Bytes(), module.Bytes())
	f.Fuzz(func(t *testing.T, vmlinux, module []byte) {
		if found, err := ScanBTF(vmlinux, module); err == nil {
			for _, c := range found {
				if len(c.Skbs) == 0 {
					t.Errorf("%+v takes no skb", c)
				}
			}
		}
	})
}

func BenchmarkScanBTF(b *testing.B) {
	data := vmlinux(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ScanBTF(data, nil); err != nil {
			b.Fatal(err)
		}
	}
}
