package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Names of the programs of buffers.h and traced.h.
const (
	// ProgramForgetBuffer is run by ForgetBuffers; needed with Options.TraceXDP.
	ProgramForgetBuffer = "forget_buffer"

	programTCEnter  = "tc_enter"   // entry of a traced tc program
	programXDPEnter = "xdp_enter"  // entry of a traced XDP program
	programRunLeave = "run_leave"  // return of either
	programCopied   = "skb_copied" // entry of skb_copy_header
)

// RunTracer makes probes for BPF programs of others. They share the maps of the
// objects that it was made for, and report through the same ring. It is not safe
// for concurrent use.
type RunTracer struct {
	objects *Objects
	options Options
	specs   map[event.Hook]*ebpf.CollectionSpec
}

// NewRunTracer takes the options that objects were loaded with.
func NewRunTracer(objects *Objects, options Options) *RunTracer {
	return &RunTracer{objects: objects, options: options, specs: make(map[event.Hook]*ebpf.CollectionSpec)}
}

// RunProbe reports the runs of one BPF program. Close detaches it.
type RunProbe struct {
	links    []link.Link // the return first
	programs []*ebpf.Program
}

// Attach reports the runs of target from now on (Linux 5.5). function is the name
// of its entry function in the target's BTF, which must take one argument; frames
// have fn as their Func. A target that is traced cannot be freed before Close.
func (t *RunTracer) Attach(target *ebpf.Program, hook event.Hook, function string, fn uint64) (*RunProbe, error) {
	spec, err := t.spec(hook)
	if err != nil {
		return nil, err
	}
	spec = spec.Copy()
	if err := spec.Variables["traced_func"].Set(fn); err != nil {
		return nil, fmt.Errorf("write BPF settings: %w", err)
	}
	for _, program := range spec.Programs {
		program.AttachTarget, program.AttachTo = target, function
	}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: t.options.KernelTypes},
		MapReplacements: t.shared(),
	})
	if err != nil {
		return nil, fmt.Errorf("load the probe: %w", err)
	}
	defer loaded.Close()
	probe := &RunProbe{}
	for _, name := range []string{programRunLeave, hookProgram(hook)} {
		if err := probe.attach(loaded.DetachProgram(name)); err != nil {
			return nil, errors.Join(fmt.Errorf("attach the probe: %w", err), probe.Close())
		}
	}
	return probe, nil
}

func (p *RunProbe) attach(program *ebpf.Program) error {
	p.programs = append(p.programs, program)
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err == nil {
		p.links = append(p.links, l)
	}
	return err
}

func hookProgram(hook event.Hook) string {
	if hook == event.HookXDP {
		return programXDPEnter
	}
	return programTCEnter
}

// spec is what is loaded for each target of a hook.
func (t *RunTracer) spec(hook event.Hook) (*ebpf.CollectionSpec, error) {
	if spec := t.specs[hook]; spec != nil {
		return spec, nil
	}
	options := t.options
	options.Programs = []string{hookProgram(hook), programRunLeave}
	spec, err := loadSpec(options)
	if err != nil {
		return nil, err
	}
	t.specs[hook] = spec
	return spec, nil
}

// AttachCopies lets the copy of an skb that a driver makes for its XDP program go on
// with the journey. The error says that this kernel has no skb_copy_header to probe.
func (t *RunTracer) AttachCopies() (*RunProbe, error) {
	options := t.options
	options.Programs = []string{programCopied}
	options.Filter = nil // it has no part in this
	spec, err := loadSpec(options)
	if err != nil {
		return nil, err
	}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: t.options.KernelTypes},
		MapReplacements: t.shared(),
	})
	if err != nil {
		return nil, fmt.Errorf("load the probe of skb_copy_header: %w", err)
	}
	defer loaded.Close()
	probe := &RunProbe{}
	if err := probe.attach(loaded.DetachProgram(programCopied)); err != nil {
		return nil, errors.Join(fmt.Errorf("attach to skb_copy_header: %w", err), probe.Close())
	}
	return probe, nil
}

// shared are the maps that every load uses: all but the constants of a load.
func (t *RunTracer) shared() map[string]*ebpf.Map {
	shared := make(map[string]*ebpf.Map, len(t.objects.maps))
	for name, m := range t.objects.maps {
		if name != ".rodata" {
			shared[name] = m
		}
	}
	return shared
}

// RecursionMisses counts the runs that the kernel did not report because the same
// probe was running on that CPU already (counted since Linux 5.12, before: 0).
func (p *RunProbe) RecursionMisses() (uint64, error) {
	var sum uint64
	for _, program := range p.programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of a probe of a BPF program: %w", err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}

// Close detaches the entry, then the return.
func (p *RunProbe) Close() error {
	var errs []error
	for i := len(p.links) - 1; i >= 0; i-- {
		errs = append(errs, p.links[i].Close())
	}
	for _, program := range p.programs {
		errs = append(errs, program.Close())
	}
	p.links, p.programs = nil, nil
	return errors.Join(errs...)
}

// OpenRuns counts the runs of traced programs whose return was not seen.
func (o *Objects) OpenRuns() (uint64, error) {
	var (
		key  uint64
		run  classicOpenRun
		open uint64
	)
	entries := o.maps["open_runs"].Iterate()
	for entries.Next(&key, &run) {
		open++
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return 0, fmt.Errorf("read the open runs of BPF programs: %w", err)
	}
	return open, nil
}

// ForgetBuffers ends the packets that an XDP program passed on before beforeMonoNs
// (CLOCK_MONOTONIC) and that nothing took over since: no skb was built around them,
// or none that is probed, or they left through another device.
func (o *Objects) ForgetBuffers(beforeMonoNs uint64) error {
	var (
		data   uint64
		buffer classicTrackedBuffer
		gone   []uint64
	)
	entries := o.maps["buffers"].Iterate()
	for entries.Next(&data, &buffer) {
		if buffer.SeenMonoNs < beforeMonoNs {
			gone = append(gone, data)
		}
	}
	// A walk that was disturbed too often is continued the next time.
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("walk the packets of XDP programs: %w", err)
	}
	for _, data := range gone {
		if _, err := o.Programs[ProgramForgetBuffer].Run(&ebpf.RunOptions{Context: [2]uint64{data}}); err != nil {
			return fmt.Errorf("stop following a packet of an XDP program: %w", err)
		}
	}
	return nil
}

// applyTrace writes what tracing of programs needs, or makes room for none.
func applyTrace(spec *ebpf.CollectionSpec, o Options) error {
	if !o.TraceXDP {
		spec.Maps["buffers"].MaxEntries = 1
	}
	if !o.TraceXDP && !o.TraceTC {
		spec.Maps["open_runs"].MaxEntries = 1
	}
	if err := spec.Variables["trace_xdp"].Set(flag(o.TraceXDP)); err != nil {
		return fmt.Errorf("write BPF settings: %w", err)
	}
	return nil
}
