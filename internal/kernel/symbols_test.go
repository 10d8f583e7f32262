package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

const kallsyms = `ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff810000f0 t __pfx_ip_rcv
ffffffff81000100 T ip_rcv
ffffffff81000200 t same
ffffffff81000300 t same
ffffffff82000000 D jiffies
0000000000000000 A fixed_percpu_data
not a line
ffffffffc0000100 t veth_xmit	[veth]
ffffffffc0000000 t same	[veth]`

func TestSymbols(t *testing.T) {
	s, err := kernel.ParseSymbols(iotest.OneByteReader(strings.NewReader(kallsyms)))
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 7 {
		t.Errorf("Len() = %d, want 7", s.Len())
	}
	tests := []struct {
		addr   uint64
		want   kernel.Symbol
		offset uint64
	}{
		{0xffffffff81000000, kernel.Symbol{Name: "_stext", Addr: 0xffffffff81000000}, 0},
		{0xffffffff81000001, kernel.Symbol{Name: "_stext", Addr: 0xffffffff81000000}, 1},
		{0xffffffff81000104, kernel.Symbol{Name: "ip_rcv", Addr: 0xffffffff81000100}, 4},
		{0xffffffffc0000180, kernel.Symbol{Name: "veth_xmit", Module: "veth", Addr: 0xffffffffc0000100}, 0x80},
	}
	for _, tt := range tests {
		got, offset, ok := s.Lookup(tt.addr)
		if !ok || got != tt.want || offset != tt.offset {
			t.Errorf("Lookup(%#x) = %+v, %d, %v; want %+v, %d", tt.addr, got, offset, ok, tt.want, tt.offset)
		}
	}
	if got, _, ok := s.Lookup(0xffffffff80ffffff); ok {
		t.Errorf("an address below the kernel is in %+v", got)
	}
	want := []kernel.Symbol{
		{Name: "same", Addr: 0xffffffff81000200},
		{Name: "same", Addr: 0xffffffff81000300},
		{Name: "same", Module: "veth", Addr: 0xffffffffc0000000},
	}
	if diff := cmp.Diff(want, s.Named("same")); diff != "" {
		t.Errorf("Named(same) (-want +got):\n%s", diff)
	}
}

func TestReadSymbolsErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kallsyms")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0000000000000000 T ip_rcv\n0000000000000000 t veth_xmit\t[veth]\n")
	if _, err := kernel.ReadSymbols(path); !errors.Is(err, kernel.ErrSymbolsHidden) {
		t.Errorf("zero addresses: error = %v, want ErrSymbolsHidden", err)
	}
	write("")
	if _, err := kernel.ReadSymbols(path); err == nil {
		t.Error("an empty file gives symbols")
	}
	write(strings.Repeat("f", 1<<19))
	if _, err := kernel.ReadSymbols(path); err == nil {
		t.Error("an endless line gives symbols")
	}
	if _, err := kernel.ReadSymbols(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: error = %v", err)
	}
	if _, err := kernel.ParseSymbols(iotest.ErrReader(os.ErrPermission)); !errors.Is(err, os.ErrPermission) {
		t.Errorf("unreadable: error = %v", err)
	}
}

func TestLazySymbolsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kallsyms")
	if err := os.WriteFile(path, []byte(kallsyms), 0o600); err != nil {
		t.Fatal(err)
	}
	lazy := kernel.LazySymbols(path)
	first, err := lazy()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if second, err := lazy(); err != nil || second != first {
		t.Errorf("second call = %p, %v; want %p", second, err, first)
	}
}

func FuzzParseSymbols(f *testing.F) {
	f.Add(kallsyms, uint64(0xffffffff81000104))
	f.Fuzz(func(t *testing.T, text string, addr uint64) {
		s, err := kernel.ParseSymbols(strings.NewReader(text))
		if err != nil {
			return
		}
		if sym, offset, ok := s.Lookup(addr); ok && sym.Addr+offset != addr {
			t.Errorf("Lookup(%#x) = %+v + %#x", addr, sym, offset)
		}
	})
}

func BenchmarkParseSymbols(b *testing.B) {
	var text strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&text, "%016x t some_function_of_the_kernel_%d\n", 0xffffffff81000000+uint64(i)*64, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kernel.ParseSymbols(strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMemoryBases(t *testing.T) {
	s, err := kernel.ParseSymbols(strings.NewReader("ffffffff81000000 T _text\nffffffff82000010 D page_offset_base\n" +
		"ffffffff82000018 D vmemmap_base\nffffffff82000020 D vmalloc_base\n"))
	if err != nil {
		t.Fatal(err)
	}
	if pageOffset, vmemmap := s.MemoryBases(); pageOffset != 0xffffffff82000010 || vmemmap != 0xffffffff82000018 {
		t.Errorf("%#x and %#x", pageOffset, vmemmap)
	}
	if s.Len() != 1 {
		t.Errorf("%d symbols of code, want 1", s.Len())
	}
}

func TestAddress(t *testing.T) {
	symbols, err := kernel.ParseSymbols(strings.NewReader("10 t once\n20 t twice\n30 T twice\t[m]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"once": 0x10, "twice": 0} {
		if got, err := symbols.Address(name); got != want || err != nil {
			t.Errorf("%s is at %#x, error %v; want %#x", name, got, err, want)
		}
	}
	if _, err := symbols.Address("never"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that there is none", err)
	}
}
