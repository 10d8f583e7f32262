package probe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// sighting is a candidate and what the other sources say of it.
type sighting struct {
	Candidate
	conflicts   bool // another prototype has the same name
	blacklisted bool
	plain       seen   // under its own name
	changed     seen   // as NAME.constprop.0 and the like
	variant     string // one of the names that changed stands for
	symbols     int    // addresses of symbol() in kallsyms, -1 when not looked up
}

// seen is what available_filter_functions has under a name.
type seen struct {
	times int
	addr  uint64 // of the entry, 0 unknown
}

// specialised says that the function exists only as the compiler changed it.
func (w *sighting) specialised() bool { return w.plain.times == 0 && w.changed.times > 0 }

func (w *sighting) symbol() string {
	if w.specialised() {
		return w.variant
	}
	return w.Name
}

// seen returns what is known of the function that symbol names.
func (w *sighting) seen() *seen {
	if w.specialised() {
		return &w.changed
	}
	return &w.plain
}

// selector joins the sources by function name.
type selector struct {
	arch   string
	wanted map[string][]*sighting
	out    Selection
}

func (s *selector) add(c Candidate) {
	for _, other := range s.wanted[c.Name] {
		if other.Module == c.Module {
			other.conflicts = other.conflicts || !c.Assumed && !slices.Equal(other.Skbs, c.Skbs)
			return
		}
	}
	s.wanted[c.Name] = append(s.wanted[c.Name], &sighting{Candidate: c, symbols: -1})
}

// find returns the wanted function of that name in that module.
func (s *selector) find(name, module []byte) *sighting {
	for _, w := range s.wanted[string(name)] {
		if w.Module == string(module) {
			return w
		}
	}
	return nil
}

// listing is what one of the kernel's slow lists holds, read on the side.
type listing[T any] struct {
	value T
	err   error
}

// readAside reads in another goroutine: the kernel takes half a second to
// write each of its lists on a slow machine, and they do not depend on another.
func readAside[T any](read func() (T, error)) <-chan listing[T] {
	done := make(chan listing[T], 1)
	go func() {
		value, err := read()
		done <- listing[T]{value, err}
	}()
	return done
}

// traceableFile returns the list of functions that ftrace can watch: the one
// with addresses where it exists (Linux 6.5) and they suffice. It costs twice
// the other, but as much as the other and kallsyms together.
func traceableFile(tracefs, backend string) string {
	list := filepath.Join(tracefs, "available_filter_functions")
	if backend == BackendKprobe {
		return list // attached by name, so it takes kallsyms to know which are unique
	}
	if _, err := os.Stat(list + addrsSuffix); err != nil {
		return list
	}
	return list + addrsSuffix
}

const addrsSuffix = "_addrs"

func hasAddrs(file string) bool { return strings.HasSuffix(file, addrsSuffix) }

func readTraceable(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("list traceable functions: %w", err)
	}
	defer f.Close()
	var list bytes.Buffer
	list.Grow(1 << 21)
	if _, err := list.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("list traceable functions: %w", err)
	}
	return list.Bytes(), nil
}

// sightTraceable takes in the functions that ftrace can watch, and says whether
// the address of each wanted one is known now.
func (s *selector) sightTraceable(list []byte, withAddrs bool) (exact bool) {
	exact = withAddrs
	for line := range bytes.Lines(list) {
		line = bytes.TrimRight(line, "\n")
		var site uint64
		if withAddrs {
			n := bytes.IndexByte(line, ' ')
			if n < 0 {
				continue
			}
			site, line = parseAddr(line[:n]), line[n+1:]
		}
		if at := s.sightLine(line); at != nil && withAddrs {
			at.addr = entryOf(s.arch, site)
			exact = exact && at.addr != 0
		}
	}
	return exact
}

// sightLine notes one "name [module]" of available_filter_functions. It
// returns where the address belongs, nil for a function that is not wanted.
func (s *selector) sightLine(line []byte) *seen {
	name, module := line, []byte(nil)
	if n := bytes.IndexByte(line, ' '); n >= 0 {
		name = line[:n]
		module = bytes.Trim(line[n:], " []")
	}
	plain := name
	if n := bytes.IndexByte(name, '.'); n > 0 {
		plain = name[:n]
	}
	w := s.find(plain, module)
	if w == nil {
		return nil
	}
	at := &w.plain
	if len(plain) != len(name) {
		at = &w.changed
		w.variant = string(name)
	}
	at.times++
	return at
}

func parseAddr(hex []byte) (v uint64) {
	for _, c := range hex {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0
		}
	}
	return v
}

// entryOf returns the entry of the function whose ftrace call site is given:
// the site itself, or before it where an ENDBR64 of 4 bytes stands first
// (https://docs.kernel.org/trace/ftrace.html). Functions are aligned to 16
// bytes there since 6.2, which tells the two apart; 0 means neither.
func entryOf(arch string, site uint64) uint64 {
	if arch != "amd64" {
		return 0
	}
	switch site % 16 {
	case 0:
		return site
	case 4:
		return site - 4
	default:
		return 0
	}
}

// sightBlacklist notes functions that must not be probed at all. The list is
// in debugfs, which need not be mounted; the kernel checks it again anyway.
func (s *selector) sightBlacklist(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) != 2 {
			continue
		}
		for _, w := range s.wanted[string(fields[1])] {
			w.blacklisted = true
		}
	}
}

func (s *selector) sightSymbols(symbols *kernel.Symbols) {
	for _, ws := range s.wanted {
		for _, w := range ws {
			w.symbols = 0
		}
	}
	symbols.Each(func(name []byte, module string, addr uint64) {
		plain := name
		if n := bytes.IndexByte(name, '.'); n > 0 {
			plain = name[:n]
		}
		for _, w := range s.wanted[string(plain)] {
			if w.Module != module || w.symbol() != string(name) {
				continue
			}
			if at := w.seen(); w.symbols == 0 || at.addr != addr {
				w.symbols++
				at.addr = addr
			}
		}
	})
}
