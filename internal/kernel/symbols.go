package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// ErrSymbolsHidden says that the kernel shows all addresses as zero.
var ErrSymbolsHidden = errors.New(
	"kernel addresses are hidden in /proc/kallsyms: run as root (CAP_SYSLOG) with sysctl kernel.kptr_restrict 0 or 1")

// Symbol is one symbol of the kernel's text.
type Symbol struct {
	Name   string
	Module string // empty for vmlinux
	Addr   uint64
}

// Symbols answers which function an address lies in and where a function is.
// It is immutable; methods may be called concurrently.
type Symbols struct {
	text   string // what names and modules are slices of
	sorted []symbol
	byName func() map[string][]int32 // built at the first use
}

// symbol refers to its name in text, to keep a table of 100,000 small and out
// of the garbage collector's sight.
type symbol struct {
	addr         uint64
	name, module span
}

type span struct{ start, end uint32 }

func (s span) of(text string) string { return text[s.start:s.end] }

// ReadSymbols parses a file laid out as /proc/kallsyms. It returns
// ErrSymbolsHidden when the addresses are hidden from this process.
func ReadSymbols(path string) (*Symbols, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	return ParseSymbols(data)
}

// LazySymbols reads the symbols at the first call and returns the same result
// ever after; reading costs up to a second on a slow machine.
func LazySymbols(path string) func() (*Symbols, error) {
	return sync.OnceValues(func() (*Symbols, error) { return ReadSymbols(path) })
}

// ParseSymbols parses lines of the form "address type name [module]", keeping
// those of type t, T, w or W (code). Lines of any other form are left out.
func ParseSymbols(data []byte) (*Symbols, error) {
	if uint64(len(data)) > 1<<32-1 {
		return nil, fmt.Errorf("parse kernel symbols: %d bytes are too many", len(data))
	}
	s := &Symbols{text: string(data), sorted: make([]symbol, 0, len(data)/48)}
	hidden := true
	for at := 0; at < len(data); {
		end := len(data)
		if n := bytes.IndexByte(data[at:], '\n'); n >= 0 {
			end = at + n
		}
		if sym, ok := parseSymbol(data[at:end], uint32(at)); ok {
			hidden = hidden && sym.addr == 0
			s.sorted = append(s.sorted, sym)
		}
		at = end + 1
	}
	if len(s.sorted) == 0 {
		return nil, errors.New("parse kernel symbols: no code symbol found")
	}
	if hidden {
		return nil, ErrSymbolsHidden
	}
	slices.SortStableFunc(s.sorted, func(a, b symbol) int {
		if a.addr < b.addr {
			return -1
		}
		if a.addr > b.addr {
			return 1
		}
		return 0
	})
	s.byName = sync.OnceValue(s.indexNames)
	return s, nil
}

// parseSymbol reads one line that starts at offset in the text.
func parseSymbol(line []byte, offset uint32) (symbol, bool) {
	addr, n := parseHex(line)
	if n == 0 || len(line) < n+4 || line[n] != ' ' || line[n+2] != ' ' {
		return symbol{}, false
	}
	switch line[n+1] {
	case 't', 'T', 'w', 'W':
	default:
		return symbol{}, false
	}
	start := n + 3
	end := len(line)
	var module span
	if line[end-1] == ']' {
		if open := bytes.LastIndexByte(line, '['); open > start {
			module = span{offset + uint32(open) + 1, offset + uint32(end) - 1}
			end = open - 1
		}
	}
	if end <= start {
		return symbol{}, false
	}
	return symbol{addr, span{offset + uint32(start), offset + uint32(end)}, module}, true
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

func (s *Symbols) indexNames() map[string][]int32 {
	m := make(map[string][]int32, len(s.sorted))
	for i, sym := range s.sorted {
		name := sym.name.of(s.text)
		m[name] = append(m[name], int32(i))
	}
	return m
}

func (s *Symbols) symbol(i int) Symbol {
	sym := s.sorted[i]
	// Cloned, so that keeping one name does not keep the whole text.
	return Symbol{
		Name:   strings.Clone(sym.name.of(s.text)),
		Module: strings.Clone(sym.module.of(s.text)),
		Addr:   sym.addr,
	}
}

// Lookup returns the symbol that addr lies in and its offset from there, in
// bytes. Of several symbols at one address it is the first in the file. False
// means that addr is below all symbols.
func (s *Symbols) Lookup(addr uint64) (sym Symbol, offset uint64, ok bool) {
	i, found := slices.BinarySearchFunc(s.sorted, addr, func(e symbol, a uint64) int {
		if e.addr < a {
			return -1
		}
		if e.addr > a {
			return 1
		}
		return 0
	})
	if !found {
		if i == 0 {
			return Symbol{}, 0, false
		}
		i--
		for i > 0 && s.sorted[i-1].addr == s.sorted[i].addr {
			i--
		}
	}
	return s.symbol(i), addr - s.sorted[i].addr, true
}

// Named returns all symbols of that name, by ascending address.
func (s *Symbols) Named(name string) []Symbol {
	var found []Symbol
	for _, i := range s.byName()[name] {
		found = append(found, s.symbol(int(i)))
	}
	return found
}

// Len returns the number of code symbols.
func (s *Symbols) Len() int { return len(s.sorted) }
