package probe

import (
	"fmt"
	"io"
	"slices"

	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// attachSession makes one link of one program for all functions, and one of
// another for those without an skb. Functions
// that end the tracking of their skb do so in the same hit; only those that
// are not among the functions get a probe of their own.
func (a *Attachment) attachSession(objects *bpf.Objects, at attacher, o AttachOptions) error {
	functions := slices.DeleteFunc(slices.Clone(o.Functions), func(f Function) bool {
		if f.Addr != 0 {
			return false
		}
		a.Refused = append(a.Refused, Skipped{f.Name, f.Module, "its address is not known: see kernel.kptr_restrict"})
		return true
	})
	functions, callees := splitCallees(functions)
	modes, ends := sessionModes(functions)
	if err := objects.SetModes(modes); err != nil {
		return err
	}
	if err := a.attachEnds(at, ends); err != nil {
		return err
	}
	if err := a.attachSessionGroup(objects, bpf.ProgramProbe, functions, o.Progress); err != nil {
		return err
	}
	return a.attachSessionGroup(objects, bpf.ProgramCallee, callees, o.Progress)
}

// attachSessionGroup makes one link of a program for functions.
func (a *Attachment) attachSessionGroup(objects *bpf.Objects, program string, functions []Function, progress func(int)) error {
	attach := func(opts link.KprobeMultiOptions) (io.Closer, error) {
		opts.Session = true
		return link.KprobeMulti(objects.Programs[program], opts)
	}
	links, refused, err := attachGroup(functions, attach)
	if err != nil {
		return fmt.Errorf("attach to %d functions: %w", len(functions), err)
	}
	a.entries = append(a.entries, links...)
	a.Refused = append(a.Refused, refused...)
	a.Attached += len(functions) - len(refused)
	if progress != nil {
		progress(a.Attached)
	}
	return nil
}

// splitCallees sets the functions without an skb apart, in the order given.
func splitCallees(functions []Function) (withSkb, callees []Function) {
	for _, f := range functions {
		if f.NoSkb {
			callees = append(callees, f)
			continue
		}
		withSkb = append(withSkb, f)
	}
	return withSkb, callees
}

// sessionModes says how each function is treated, and which of the functions
// that end the tracking of an skb are not among them.
func sessionModes(functions []Function) (map[uint64]bpf.Mode, []endFunction) {
	ends := make(map[string]endFunction)
	for _, end := range endFunctions() {
		ends[end.function] = end
	}
	modes := make(map[uint64]bpf.Mode, len(functions))
	for _, f := range functions {
		mode := bpf.Mode{Arg: f.Arg, Indirect: f.Indirect, NoStart: f.NoStart, Kin: f.Kin, Sock: f.Sock, Reads: f.Reads}
		if end, ok := ends[f.Name]; ok && f.Module == "" {
			mode.End = end.how
			delete(ends, f.Name)
		}
		modes[f.Addr] = mode
	}
	var left []endFunction
	for _, end := range endFunctions() {
		if _, ok := ends[end.function]; ok {
			left = append(left, end)
		}
	}
	return modes, left
}
