package spans

import (
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// caller names where a frame returns to, "" unknown. A function that another one
// jumped to finds its return address where that one had it: in the same place on
// the stack. There may stand the kernel's trampoline by then, for the return of
// the first is probed; so the first one's caller, read before that, is the answer.
func (b *Builder) caller(s *Span) string {
	for {
		addresses := b.extras.stackOf(&s.Frame, event.StackCaller)
		if len(addresses) == 0 {
			return ""
		}
		text := b.names.place(addresses[0])
		if !isReturnTrampoline(text) {
			return text
		}
		p := &b.trace.Spans[s.ParentIndex]
		if s.ParentIndex <= 0 || p.Frame.Stack != s.Frame.Stack {
			return ""
		}
		s = p
	}
}

// isReturnTrampoline says whether a place is where functions return to whose
// return is probed, on some kernel.
func isReturnTrampoline(place string) bool {
	symbol, _, _ := strings.Cut(place, "+")
	switch symbol {
	case "kretprobe_trampoline", "__kretprobe_trampoline", "arch_rethook_trampoline", "return_to_handler":
		return true
	}
	return false
}

// stackText gives a line for each address of a stack on which a frame is open, or
// the root. Kernels before 5.16 unwind up to the first function whose return is
// probed (https://git.kernel.org/torvalds/c/19138af1bd88), and find a trampoline
// there: from it on, the stack is that of the frames.
func (b *Builder) stackText(addresses []uint64, at int32) string {
	lines := b.lines[:0]
	for _, a := range addresses {
		place := b.names.place(a)
		if isReturnTrampoline(place) {
			lines = b.appendCallers(lines, at)
			break
		}
		if place == "" {
			place = "unknown function"
		}
		lines = append(lines, place)
	}
	b.lines = lines
	return strings.Join(lines, "\n")
}

// appendCallers continues a stack with where the frames were called from: that of
// the function that is its last line, and those around it.
func (b *Builder) appendCallers(lines []string, at int32) []string {
	last := ""
	if len(lines) > 0 {
		last = lines[len(lines)-1]
	}
	symbol, _, _ := strings.Cut(last, "+")
	for i := at; i > 0; i = b.trace.Spans[i].ParentIndex {
		if b.trace.Spans[i].Name == symbol {
			at = i
			break
		}
	}
	for ; at > 0 && len(lines) < event.MaxStackDepth; at = b.trace.Spans[at].ParentIndex {
		if caller := b.caller(&b.trace.Spans[at]); caller != "" && caller != last {
			lines, last = append(lines, caller), caller
		}
	}
	return lines
}

// dropStack gives the span of a drop the stack on which it happened: its first
// one, where there are several.
func (b *Builder) dropStack(at int32, e *event.End) {
	addresses := b.extras.dropOf(e)
	if len(addresses) == 0 {
		return
	}
	stack := b.stackText(b.withoutTracing(addresses, e.Location), at)
	if b.extras.stack == "" && at == b.trace.DropSpan {
		b.extras.stack = stack
	}
	if at == 0 {
		return // rootExtras does
	}
	if slices.Contains(b.extras.dropped, at) {
		return
	}
	b.extras.dropped = append(b.extras.dropped, at)
	s := &b.trace.Spans[at]
	for i := range s.Attrs {
		if s.Attrs[i].Key == KeyCodeStacktrace { // that of its entry, which says less
			s.Attrs[i].Str = stack
			return
		}
	}
	from := len(b.attrs)
	b.attrs = append(b.attrs, s.Attrs...)
	b.add(StringAttr(KeyCodeStacktrace, stack))
	s.Attrs = b.cut(from)
}

// withoutTracing cuts off the functions that ran the BPF program: what is above
// the function that reported the drop, which is the callee of the location.
func (b *Builder) withoutTracing(addresses []uint64, location uint64) []uint64 {
	if i := slices.Index(addresses, location); i > 0 {
		return addresses[i-1:]
	}
	for i, a := range addresses {
		if !isTracing(b.names.place(a)) {
			return addresses[i:]
		}
	}
	return addresses
}

// isTracing says whether a place is in what the kernel runs a program of a
// tracepoint by.
func isTracing(place string) bool {
	for _, prefix := range [...]string{"bpf_", "__bpf_", "__traceiter_", "perf_trace_", "trace_"} {
		if strings.HasPrefix(place, prefix) {
			return true
		}
	}
	return place == "" || strings.HasSuffix(place, " [bpf]")
}
