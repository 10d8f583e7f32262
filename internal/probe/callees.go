package probe

import (
	"bytes"
	"fmt"
	"regexp"
)

// What the backends can bear of functions without an skb. Single kprobes take
// 30 to 100 ms each to attach and detach; a multi link takes all at once, but
// every call of each runs a program.
const (
	maxCallees       = 4096
	maxSingleCallees = 256
)

// withoutSkb lists the traceable functions whose whole name matches and which
// are none of those that take an skb, each once. Types are not asked for: a
// function that BTF lacks takes none that could be read.
func withoutSkb(list []byte, withAddrs bool, takeSkb []Candidate, pattern *regexp.Regexp) []Candidate {
	type key struct{ name, module string }
	seen := make(map[key]bool, len(takeSkb))
	for _, c := range takeSkb {
		seen[key{c.Name, c.Module}] = true
	}
	var found []Candidate
	for line := range bytes.Lines(list) {
		name, module := traceableName(bytes.TrimRight(line, "\n"), withAddrs)
		if !pattern.Match(name) {
			continue
		}
		k := key{string(name), string(module)}
		if seen[k] {
			continue
		}
		seen[k] = true
		found = append(found, Candidate{Name: k.name, Module: k.module})
	}
	return found
}

// traceableName reads one "name [module]" of available_filter_functions, with
// the address before it where the list has them. The name is without what the
// compiler added to it.
func traceableName(line []byte, withAddrs bool) (name, module []byte) {
	if withAddrs {
		_, line, _ = bytes.Cut(line, []byte{' '})
	}
	name, module, _ = bytes.Cut(line, []byte{' '})
	name, _, _ = bytes.Cut(name, []byte{'.'})
	return name, bytes.Trim(module, " []")
}

// ownRules name functions without an skb that run whenever one of our programs
// does: each hit would be one that the kernel leaves out and counts as missed.
func ownRules() ruleSet {
	const own = "runs for our own probes"
	return compileRules([][2]string{
		{`(__)?htab_.*|(percpu_)?array_map_.*|(__)?bpf_(get|ktime|loop|map|probe_read|ringbuf|session)_.*`, own},
		{`(arch_)?(fprobe|kprobe|kretprobe|rethook)_.*|ftrace_.*|perf_.*|trace_call_bpf`, own},
	})
}

// decideCallee turns the sighting of a function without an skb into a function
// or a reason.
func (s *selector) decideCallee(w *sighting, excluded, own ruleSet) {
	if reason := w.skipCallee(excluded, own); reason != "" {
		s.out.SkippedCallees = append(s.out.SkippedCallees, Skipped{w.Name, w.Module, reason})
		return
	}
	s.out.Callees = append(s.out.Callees, Function{
		Name: w.Name, Module: w.Module, Symbol: w.symbol(), Addr: w.seen().addr, NoSkb: true,
	})
}

// skipCallee is skip without what an argument asks for: of a function that the
// compiler changed nothing is read but that it runs.
func (w *sighting) skipCallee(excluded, own ruleSet) string {
	switch {
	case excluded.reason(w.Name) != "":
		return excluded.reason(w.Name)
	case own.reason(w.Name) != "":
		return own.reason(w.Name)
	case w.blacklisted:
		return "blacklisted for kprobes by the kernel"
	case w.seen().times > 1 || w.symbols > 1:
		return fmt.Sprintf("ambiguous: %d functions have this name", max(w.seen().times, w.symbols))
	case w.symbols == 0:
		return "has no symbol in kallsyms"
	}
	return ""
}

// UsableCallees returns an error that says why the functions without an skb
// can't be probed, nil when they can. pattern is what the user asked for, empty
// when he did not.
func (s Selection) UsableCallees(pattern, backend string) error {
	limit := maxCallees
	if backend == BackendKprobe {
		limit = maxSingleCallees
	}
	switch {
	case pattern == "":
		return nil
	case len(s.Callees) > limit && backend == BackendKprobe:
		return fmt.Errorf("%d functions without an skb match %q, but the backend kprobe attaches to them one by one and takes at most %d: narrow the expression",
			len(s.Callees), pattern, limit)
	case len(s.Callees) > limit:
		return fmt.Errorf("%d functions without an skb match %q, and at most %d can be probed: narrow the expression",
			len(s.Callees), pattern, limit)
	case len(s.Callees) > 0:
		return nil
	case len(s.SkippedCallees) > 0:
		first := s.SkippedCallees[0]
		return fmt.Errorf("none of the %d functions without an skb that match %q can be probed (%s: %s)",
			len(s.SkippedCallees), pattern, first.Name, first.Reason)
	default:
		return fmt.Errorf("no function of this kernel without an skb matches %q: those that take one are chosen by --filter-func", pattern)
	}
}
