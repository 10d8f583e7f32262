package probe

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// The backends, which are the ways to attach to functions.
const (
	BackendSession = "session" // kprobe.session: entry and return in one program
	BackendMulti   = "multi"   // kprobe.multi and kretprobe.multi
	BackendKprobe  = "kprobe"  // one kprobe and one kretprobe per function
)

// Function is a kernel function that can be probed.
type Function struct {
	Name   string
	Module string // empty for vmlinux
	// Symbol is its name in kallsyms, which differs from Name where the
	// compiler specialised the function (NAME.constprop.0).
	Symbol string
	Addr   uint64 // address of the function's entry, 0 when not known
	Arg    int    // 0-based number of the argument register that leads to the skb
	// Indirect is set when the argument is a struct sk_buff ** to be read
	// through.
	Indirect bool
	// NoStart is set when no journey may begin here, because the skb is being
	// built, copied or freed: its members are stale or dying.
	NoStart bool
	// Kin says what it does with its skb and others.
	Kin bpf.Kin
	// Sock is set when the skb belongs to the struct sock that is the first
	// argument.
	Sock bool
	// Reads is set when the thread that calls it gets the packet's data.
	Reads bool
	// NoSkb is set for a function without an skb; Arg and Return mean nothing.
	NoSkb  bool
	Return Return
}

// Skipped is a function that takes an skb and is not probed.
type Skipped struct {
	Name   string
	Module string // empty for vmlinux
	Reason string // one clause, without the name
}

// Selection is what Select decided, all lists sorted by module and name.
type Selection struct {
	Functions []Function
	Skipped   []Skipped
	// Callees are functions without an skb that were asked for, SkippedCallees
	// those of them that can't be probed.
	Callees        []Function
	SkippedCallees []Skipped
}

// CompilePattern compiles an RE2 expression (https://golang.org/s/re2syntax)
// that has to match the whole name of a function.
func CompilePattern(expr string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(expr); err != nil {
		return nil, fmt.Errorf("compile function pattern: %w", err)
	}
	re, err := regexp.Compile("^(?:" + expr + ")$")
	if err != nil {
		return nil, fmt.Errorf("compile function pattern: %w", err)
	}
	return re, nil
}

// Usable returns an error that says why nothing can be probed, nil when
// something can. pattern is what the user asked for, empty for everything.
func (s Selection) Usable(pattern string) error {
	switch {
	case len(s.Functions) > 0:
		return nil
	case len(s.Skipped) == 0 && pattern != "":
		return fmt.Errorf("no function of this kernel that takes an skb matches %q: list them with 'otel-kprobe functions'", pattern)
	case len(s.Skipped) == 0:
		return fmt.Errorf("no function of this kernel takes an skb")
	default:
		first := s.Skipped[0]
		return fmt.Errorf("none of the %d matching functions can be probed (%s: %s): see 'otel-kprobe functions'",
			len(s.Skipped), first.Name, first.Reason)
	}
}

// Begins returns an error when no journey could begin at any of the functions,
// so that nothing would ever be reported. pattern is as for Usable.
func (s Selection) Begins(pattern string) error {
	for _, f := range s.Functions {
		if !f.NoStart {
			return nil
		}
	}
	return fmt.Errorf("no packet can be picked up at the functions that match %q, which make or free skbs: let it match one on the way, too (ip_rcv, ip_output)", pattern)
}

func (s Selection) sort() {
	for _, list := range [][]Function{s.Functions, s.Callees} {
		slices.SortFunc(list, func(a, b Function) int {
			return cmp.Or(cmp.Compare(a.Module, b.Module), cmp.Compare(a.Name, b.Name))
		})
	}
	for _, list := range [][]Skipped{s.Skipped, s.SkippedCallees} {
		slices.SortFunc(list, func(a, b Skipped) int {
			return cmp.Or(cmp.Compare(a.Module, b.Module), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason))
		})
	}
}

// WriteTable prints what would be probed and what would not, with reasons.
func WriteTable(w io.Writer, s Selection) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "FUNCTION\tMODULE\tARG\tNOTES\n")
	for _, f := range s.Functions {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\n", f.Name, moduleOf(f.Module), f.Arg, f.notes())
	}
	for _, f := range s.Callees {
		fmt.Fprintf(tw, "%s\t%s\t-\t%s\n", f.Name, moduleOf(f.Module), f.notes())
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write functions: %w", err)
	}
	skipped := slices.Concat(s.Skipped, s.SkippedCallees)
	if len(skipped) > 0 {
		fmt.Fprintf(tw, "\nSKIPPED\tMODULE\tREASON\n")
		for _, f := range skipped {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, moduleOf(f.Module), f.Reason)
		}
	}
	fmt.Fprintf(tw, "\n%d functions, %d skipped\n", len(s.Functions)+len(s.Callees), len(skipped))
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write functions: %w", err)
	}
	return nil
}

func moduleOf(module string) string { return cmp.Or(module, "vmlinux") }

func (f Function) notes() string {
	var notes []string
	if f.Symbol != f.Name {
		notes = append(notes, "as "+f.Symbol)
	}
	if f.NoSkb {
		notes = append(notes, "without an skb: only within a frame")
	}
	if f.Indirect {
		notes = append(notes, "struct sk_buff **")
	}
	if f.NoStart {
		notes = append(notes, "starts no journey")
	}
	if f.Sock {
		notes = append(notes, "with its socket")
	}
	if f.Reads {
		notes = append(notes, "gives its data to a program")
	}
	if note := kinNote(f.Kin); note != "" {
		notes = append(notes, note)
	}
	return cmp.Or(strings.Join(notes, ", "), "-")
}
