package kernel

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
)

// KallsymsPath is where the running kernel lists its symbols.
const KallsymsPath = "/proc/kallsyms"

// ErrSymbolsHidden says that the kernel shows all addresses as zero.
var ErrSymbolsHidden = errors.New(
	"kernel addresses are hidden in /proc/kallsyms: run as root (CAP_SYSLOG) with sysctl kernel.kptr_restrict 0 or 1")

// Symbol is one symbol of the kernel's code.
type Symbol struct {
	Name   string
	Module string // empty for vmlinux
	Addr   uint64
}

// Symbols answers which function an address lies in and where a function is.
// It is immutable; methods may be called concurrently. A kernel's 100,000
// symbols take some 4 MB, and no memory that the garbage collector looks into.
type Symbols struct {
	sorted  []symbol // by address, those at one address in the order of the file
	names   []byte   // all names, one after the other
	modules []string // the first is vmlinux's, empty

	pageOffset, vmemmap uint64 // of MemoryBases
}

type symbol struct {
	addr   uint64
	name   uint32 // offset in names
	length uint16 // of the name
	module uint16 // index in modules
}

// ReadSymbols parses a file laid out as /proc/kallsyms. It returns
// ErrSymbolsHidden when the addresses are hidden from this process. Reading
// the kernel's takes it up to a second on a slow machine.
func ReadSymbols(path string) (*Symbols, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	defer f.Close()
	return ParseSymbols(f)
}

// LazySymbols reads the symbols at the first call and returns the same result
// ever after.
func LazySymbols(path string) func() (*Symbols, error) {
	return sync.OnceValues(func() (*Symbols, error) { return ReadSymbols(path) })
}

// ParseSymbols parses lines of the form "address type name [module]", keeping
// those of code (type t, T, w or W) but for the paddings before functions
// (__pfx_NAME), and the variables of MemoryBases. Lines of any other form are left out.
func ParseSymbols(r io.Reader) (*Symbols, error) {
	s := &Symbols{modules: []string{""}}
	if err := s.read(r); err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	if len(s.sorted) == 0 {
		return nil, errors.New("read kernel symbols: no code symbol found")
	}
	if s.hidden() {
		return nil, ErrSymbolsHidden
	}
	// Names were appended in the order of the file, so their offsets keep it.
	byAddr := func(a, b symbol) int { return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(a.name, b.name)) }
	if !slices.IsSortedFunc(s.sorted, byAddr) {
		slices.SortFunc(s.sorted, byAddr)
	}
	s.sorted, s.names = slices.Clip(s.sorted), slices.Clip(s.names)
	return s, nil
}

// read passes the complete lines of each block on; a block holds thousands.
func (s *Symbols) read(r io.Reader) error {
	buf := make([]byte, 0, 1<<18)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			s.addLine(rest[:end])
			rest = rest[end+1:]
		}
		if err == io.EOF {
			s.addLine(rest)
			return nil
		}
		if err != nil {
			return err
		}
		if len(rest) == cap(buf) {
			return fmt.Errorf("a line is longer than %d bytes", cap(buf))
		}
		buf = buf[:copy(buf, rest)]
	}
}

func (s *Symbols) addLine(line []byte) {
	addr, n := parseHex(line)
	if n == 0 || len(line) < n+4 || line[n] != ' ' || line[n+2] != ' ' {
		return
	}
	switch line[n+1] {
	case 't', 'T', 'w', 'W':
	default:
		s.addBase(addr, line[n+3:])
		return
	}
	name := line[n+3:]
	var module []byte
	if i := bytes.IndexByte(name, '\t'); i >= 0 {
		name, module = name[:i], bytes.Trim(name[i:], "\t[]")
	}
	if len(name) == 0 || len(name) > math.MaxUint16 || bytes.HasPrefix(name, []byte("__pfx_")) ||
		len(s.names) > math.MaxUint32-len(name) {
		return
	}
	s.sorted = append(s.sorted, symbol{addr, uint32(len(s.names)), uint16(len(name)), s.moduleIndex(module)})
	s.names = append(s.names, name...)
}

// addBase keeps the address of one of the variables of MemoryBases.
func (s *Symbols) addBase(addr uint64, name []byte) {
	switch string(name) {
	case "page_offset_base":
		s.pageOffset = addr
	case "vmemmap_base":
		s.vmemmap = addr
	}
}

// MemoryBases gives the addresses of the variables page_offset_base and vmemmap_base, 0
// where there is none (https://docs.kernel.org/arch/x86/x86_64/mm.html).
func (s *Symbols) MemoryBases() (pageOffset, vmemmap uint64) { return s.pageOffset, s.vmemmap }

// moduleIndex looks from the end: the symbols of a module stand together.
func (s *Symbols) moduleIndex(module []byte) uint16 {
	for i := len(s.modules) - 1; i >= 0; i-- {
		if s.modules[i] == string(module) {
			return uint16(i)
		}
	}
	if len(s.modules) > math.MaxUint16 {
		return 0
	}
	s.modules = append(s.modules, string(module))
	return uint16(len(s.modules) - 1)
}

func (s *Symbols) hidden() bool {
	for _, sym := range s.sorted {
		if sym.addr != 0 {
			return false
		}
	}
	return true
}

// parseHex reads hexadecimal digits, at most 16, and says how many.
func parseHex(b []byte) (v uint64, n int) {
	for n < len(b) && n < 16 {
		c := b[n]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return v, n
		}
		v = v<<4 | uint64(c)
		n++
	}
	return v, n
}

func (s *Symbols) nameOf(sym symbol) []byte {
	return s.names[sym.name : sym.name+uint32(sym.length)]
}

// Lookup returns the symbol that addr lies in and its offset from there, in
// bytes. Of several symbols at one address it is the first in the file. False
// means that addr is below all symbols. An address beyond the kernel's code
// gives the last symbol before it, with a large offset.
func (s *Symbols) Lookup(addr uint64) (sym Symbol, offset uint64, ok bool) {
	i, found := slices.BinarySearchFunc(s.sorted, addr, func(e symbol, a uint64) int { return cmp.Compare(e.addr, a) })
	if !found {
		if i == 0 {
			return Symbol{}, 0, false
		}
		i--
		for i > 0 && s.sorted[i-1].addr == s.sorted[i].addr {
			i--
		}
	}
	at := s.sorted[i]
	return Symbol{string(s.nameOf(at)), s.modules[at.module], at.addr}, addr - at.addr, true
}

// Each calls f with every symbol, by ascending address; name is good until f
// returns.
func (s *Symbols) Each(f func(name []byte, module string, addr uint64)) {
	for _, sym := range s.sorted {
		f(s.nameOf(sym), s.modules[sym.module], sym.addr)
	}
}

// Named returns all symbols of that name, by ascending address. It looks at
// every symbol: use Each for many names.
func (s *Symbols) Named(name string) []Symbol {
	var found []Symbol
	for _, sym := range s.sorted {
		if int(sym.length) == len(name) && string(s.nameOf(sym)) == name {
			found = append(found, Symbol{name, s.modules[sym.module], sym.addr})
		}
	}
	return found
}

// Address returns the address of the only symbol of that name, 0 where there are several,
// and an os.ErrNotExist where there is none.
func (s *Symbols) Address(name string) (uint64, error) {
	switch found := s.Named(name); len(found) {
	case 0:
		return 0, fmt.Errorf("find symbol %s: %w", name, os.ErrNotExist)
	case 1:
		return found[0].Addr, nil
	default:
		return 0, nil
	}
}

// Len returns the number of symbols.
func (s *Symbols) Len() int { return len(s.sorted) }
