package main

import (
	"fmt"
	"strconv"

	"github.com/cilium/ebpf/btf"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// The values of --stack.
const (
	stackDrops = "drops"
	stackAll   = "all"
)

// extrasFlags ask for what is reported of a packet besides its frames.
type extrasFlags struct {
	stack   string
	caller  bool
	fields  string
	payload string
}

func (f *extrasFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.stack, "stack", "", "add the kernel stack: `WHICH` is drops, or all for that of every function too")
	flags.BoolVar(&f.caller, "caller", false, "add to each function where it was called from")
	flags.StringVar(&f.fields, "skb-fields", "", "add these members of the skb where they change, a `LIST` like skb->hash,skb->dev->ifindex")
	flags.StringVar(&f.payload, "payload", "", "add the first `N` bytes of each packet from its IP header on, 1 to 256: they may be secret")
}

// extrasSettings are extrasFlags, checked as far as that needs no kernel.
type extrasSettings struct {
	stack   string // "", stackDrops or stackAll
	caller  bool
	fields  []string
	payload int // bytes, 0 for none
}

// settings checks the flags. Every error is the user's to mend.
func (f *extrasFlags) settings() (s extrasSettings, err error) {
	s = extrasSettings{stack: f.stack, caller: f.caller}
	switch f.stack {
	case "", stackDrops, stackAll:
	default:
		return s, fmt.Errorf("read --stack: %q is neither drops nor all", f.stack)
	}
	if f.fields != "" {
		if s.fields, err = kernel.ParseSkbFields(f.fields); err != nil {
			return s, fmt.Errorf("read --skb-fields: %w", err)
		}
		if len(s.fields) > bpf.MaxFields {
			return s, fmt.Errorf("read --skb-fields: %d fields are more than %d", len(s.fields), bpf.MaxFields)
		}
	}
	if f.payload != "" {
		s.payload, err = strconv.Atoi(f.payload)
		if err != nil || s.payload < 1 || s.payload > event.MaxExtraBytes {
			return s, fmt.Errorf("read --payload: %q is not a number of bytes from 1 to %d", f.payload, event.MaxExtraBytes)
		}
	}
	return s, nil
}

// extras are what was asked for, in the terms of the running kernel.
type extras struct {
	wanted bpf.Extras
	fields []event.SkbField // how the pipeline reads the fields of wanted
}

// resolve finds the fields in the kernel's types. What is not there is the user's
// to mend. When nothing is asked for it does not wait for the types.
func (s *extrasSettings) resolve(read func() (kernelTypes, error), entryOnly bool) (x extras, err error) {
	x.wanted = bpf.Extras{
		StackDrops:  s.stack != "",
		StackFrames: s.stack == stackAll,
		Caller:      s.caller,
		Payload:     s.payload,
	}
	if s.stack == "" && len(s.fields) == 0 {
		return x, nil
	}
	types, err := read()
	if err != nil {
		return x, err
	}
	if s.stack != "" && !entryOnly && !unwindsReturnProbes(types.spec) {
		x.wanted.Caller = true
	}
	paths, err := kernel.ResolveSkbFields(types.spec, s.fields)
	if err != nil {
		return x, usageError(fmt.Errorf("read --skb-fields: %w", err))
	}
	for _, p := range paths {
		x.fields = append(x.fields, p.Field)
		x.wanted.Fields = append(x.wanted.Fields, bpf.FieldPath{Offsets: p.Offsets, Bytes: uint16(p.Field.Bytes), At: p.Field.At})
	}
	return x, nil
}

// unwindsReturnProbes says whether the kernel's stacks go on behind a function
// whose return is probed, as they do since Linux 5.16
// (https://git.kernel.org/torvalds/c/19138af1bd88). Where they do not, callers of
// the frames stand in for the rest.
func unwindsReturnProbes(types *btf.Spec) bool {
	for _, name := range []string{"kretprobe_find_ret_addr", "rethook_find_ret_addr"} {
		var function *btf.Func
		if types.TypeByName(name, &function) == nil {
			return true
		}
	}
	return false
}
