package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// Sources says where Select reads what it knows of the kernel.
type Sources struct {
	BTFDir    string // laid out as /sys/kernel/btf
	Vmlinux   string // a file with the types of the kernel image, empty: BTFDir has them
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
	// Modules are those whose functions are looked at, Kernel for the kernel image;
	// nil means all. Of modules that are named, BackendKprobe takes all functions.
	Modules []string
	// NonSkb has to match the name of a function without an skb, for
	// Selection.Callees; nil means none of them.
	NonSkb *regexp.Regexp
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
	found, all, err := candidates(src, opts)
	list := <-traceable
	if err := errors.Join(err, list.err); err != nil {
		return Selection{}, err
	}
	sel := selector{arch: opts.Arch, wanted: make(map[string][]*sighting, len(found))}
	for _, c := range found {
		sel.add(c)
	}
	if opts.NonSkb != nil {
		for _, c := range withoutSkb(list.value, hasAddrs(file), all, opts.NonSkb) {
			sel.add(c)
		}
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

// candidates scans vmlinux and the modules and keeps what the options ask for;
// all are those that it found.
func candidates(src Sources, opts Options) (kept, all []Candidate, err error) {
	keep := opts.wanted()
	vmlinux, err := kernel.ReadVmlinuxBTF(src.Vmlinux, src.BTFDir)
	if err != nil {
		return nil, nil, err
	}
	scanner, err := NewScanner(vmlinux, opts.Arch)
	if err != nil {
		return nil, nil, err
	}
	found := scanner.Scan("", vmlinux)
	fromModules, err := scanModules(scanner, src.BTFDir)
	if err != nil {
		return nil, nil, err
	}
	all = slices.Concat(found, fromModules, unlisted())
	for _, c := range all {
		if keep(c) {
			kept = append(kept, c)
		}
	}
	return kept, all, nil
}

// scanModules scans the loaded modules, or falls back to the built-in table on
// a kernel without module BTF.
func scanModules(scanner *Scanner, btfDir string) ([]Candidate, error) {
	modules, err := kernel.ModulesWithBTF(btfDir)
	if errors.Is(err, fs.ErrNotExist) { // a file stands in for the kernel's own types
		return moduleFunctions(), nil
	}
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

// decide turns every sighting into a function or a reason.
func (s *selector) decide() {
	noStart, excluded, own := noStartRules(), excludedRules(), ownRules()
	for _, ws := range s.wanted {
		for _, w := range ws {
			if w.Assumed && w.seen().times == 0 {
				continue
			}
			if len(w.Skbs) == 0 {
				s.decideCallee(w, excluded, own)
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
				Kin:     kinOf(w.Name),
				Sock:    w.withSock(arg, noStart),
				Reads:   givesData(w.Name),
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

// withSock says that the socket which the skb belongs to comes right before it.
// Where no journey starts the skb is nobody's any more, or not yet.
func (w *sighting) withSock(arg SkbArg, noStart ruleSet) bool {
	return w.Sock && arg.Register == 1 && !arg.Indirect && noStart.reason(w.Name) == "" && kinOf(w.Name) == 0
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
