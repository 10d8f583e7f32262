package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// Sources says where Select reads what it knows of the kernel.
type Sources struct {
	BTFDir    string // laid out as /sys/kernel/btf
	Tracefs   string // holds available_filter_functions and, perhaps, ..._addrs
	Blacklist string // laid out as /sys/kernel/debug/kprobes/blacklist; need not exist
	// Symbols gives the kernel's symbols (kernel.LazySymbols, so that others
	// can use them as well), where Tracefs does not suffice. It is called in
	// a goroutine of its own.
	Symbols func() (*kernel.Symbols, error)
}

// SystemSources names the sources of the running kernel. tracefs is its mount
// point, as kernel.TracefsDir finds it.
func SystemSources(tracefs string) Sources {
	return Sources{
		BTFDir:    kernel.BTFDir,
		Tracefs:   tracefs,
		Blacklist: "/sys/kernel/debug/kprobes/blacklist",
		Symbols:   kernel.LazySymbols(kernel.KallsymsPath),
	}
}

// Options narrows a selection.
type Options struct {
	// Pattern has to match the name of a function (CompilePattern); nil means
	// all functions, or the curated ones with BackendKprobe.
	Pattern *regexp.Regexp
	// Backend is one of the Backend constants.
	Backend string
	// Arch is a GOARCH; empty is that of this program.
	Arch string
}

// Select decides which functions are probed. Functions that the pattern does
// not match appear in neither list. A selection may be empty: see Usable.
func Select(src Sources, opts Options) (Selection, error) {
	if opts.Arch == "" {
		opts.Arch = runtime.GOARCH
	}
	file := traceableFile(src.Tracefs, opts.Backend)
	traceable := readAside(func() ([]byte, error) { return readTraceable(file) })
	var symbols <-chan listing[*kernel.Symbols]
	if !hasAddrs(file) {
		symbols = readAside(src.Symbols)
	}
	found, err := candidates(src, opts)
	list := <-traceable
	if err = errors.Join(err, list.err); err != nil {
		return Selection{}, err
	}
	sel := selector{arch: opts.Arch, wanted: make(map[string][]*sighting, len(found))}
	for _, c := range found {
		sel.add(c)
	}
	sel.sightBlacklist(src.Blacklist)
	if exact := sel.sightTraceable(list.value, hasAddrs(file)); !exact {
		if symbols == nil {
			symbols = readAside(src.Symbols)
		}
		listed := <-symbols
		if listed.err != nil {
			return Selection{}, fmt.Errorf("find addresses of functions: %w", listed.err)
		}
		sel.sightSymbols(listed.value)
	}
	sel.decide()
	sel.out.sort()
	return sel.out, nil
}

// candidates scans vmlinux and the modules and keeps what the options ask for.
func candidates(src Sources, opts Options) ([]Candidate, error) {
	keep := func(name string) bool { return opts.Pattern.MatchString(name) }
	if opts.Pattern == nil {
		keep = func(string) bool { return true }
		if opts.Backend == BackendKprobe {
			names := curated()
			keep = func(name string) bool { return names[name] }
		}
	}
	vmlinux, err := kernel.ReadBTF(src.BTFDir, "vmlinux", nil)
	if err != nil {
		return nil, err
	}
	scanner, err := NewScanner(vmlinux, opts.Arch)
	if err != nil {
		return nil, err
	}
	found := scanner.Scan("", vmlinux)
	fromModules, err := scanModules(scanner, src.BTFDir)
	if err != nil {
		return nil, err
	}
	var kept []Candidate
	for _, c := range slices.Concat(found, fromModules, unlisted()) {
		if keep(c.Name) {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// scanModules scans the loaded modules, or falls back to the built-in table on
// a kernel without module BTF.
func scanModules(scanner *Scanner, btfDir string) ([]Candidate, error) {
	modules, err := kernel.ModulesWithBTF(btfDir)
	if err != nil {
		return nil, err
	}
	var found []Candidate
	for _, name := range modules {
		b, err := kernel.ReadBTF(btfDir, name, scanner.vmlinux)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unloaded meanwhile
		}
		if err != nil {
			return nil, err
		}
		found = append(found, scanner.Scan(name, b)...)
	}
	if len(modules) == 0 {
		return moduleFunctions(), nil
	}
	return found, nil
}

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

// decide turns every sighting into a function or a reason.
func (s *selector) decide() {
	noStart, excluded := noStartRules(), excludedRules()
	for _, ws := range s.wanted {
		for _, w := range ws {
			if w.Assumed && w.seen().times == 0 {
				continue
			}
			arg := w.arg()
			if reason := w.skip(arg, excluded); reason != "" {
				s.out.Skipped = append(s.out.Skipped, Skipped{w.Name, w.Module, reason})
				continue
			}
			s.out.Functions = append(s.out.Functions, Function{
				Name: w.Name, Module: w.Module, Symbol: w.symbol(), Addr: w.seen().addr,
				Arg: arg.Register, Indirect: arg.Indirect, Return: w.Return,
				NoStart: noStart.reason(w.Name) != "",
				Clones:  clones(w.Name),
			})
		}
	}
}

// arg returns the parameter that holds the packet which arrives.
func (w *sighting) arg() SkbArg {
	if n := arriving(w.Name); n < len(w.Skbs) {
		return w.Skbs[n]
	}
	return w.Skbs[0]
}

// skip returns why the function is not probed, empty when it is.
func (w *sighting) skip(arg SkbArg, excluded ruleSet) string {
	switch {
	case excluded.reason(w.Name) != "":
		return excluded.reason(w.Name)
	case arg.Indirect && outParameter(w.Name):
		return "returns an skb through its argument, gets none"
	case arg.Register < 0:
		return "skb is passed on the stack"
	case w.blacklisted:
		return "blacklisted for kprobes by the kernel"
	case w.seen().times == 0:
		return "inlined everywhere or notrace: not in available_filter_functions"
	case w.seen().times > 1 || w.symbols > 1:
		return fmt.Sprintf("ambiguous: %d functions have this name", max(w.seen().times, w.symbols))
	case w.specialised() && !keepsFirst(w.variant, arg):
		return fmt.Sprintf("compiled as %s: its arguments may have moved", w.variant)
	case w.conflicts:
		return "ambiguous: prototypes of this name differ"
	case w.symbols == 0:
		return "has no symbol in kallsyms"
	default:
		return ""
	}
}

// keepsFirst says that a specialised function still has its skb in the
// register that the prototype says. The compiler drops parameters that are
// constant (.constprop), replaces pointers by what they point to (.isra) and
// cuts functions apart (.part): only an skb in the first register of a
// .constprop function cannot have moved, for it is no constant.
func keepsFirst(symbol string, arg SkbArg) bool {
	return arg.Register == 0 && strings.Contains(symbol, ".constprop.") &&
		!strings.Contains(symbol, ".isra.") && !strings.Contains(symbol, ".part.") && !strings.Contains(symbol, ".cold")
}
