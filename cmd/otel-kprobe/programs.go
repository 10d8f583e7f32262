package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

const (
	// programInterval is how often programs are looked for that were loaded since.
	programInterval = 200 * time.Millisecond
	// bufferPatience is how long a packet that an XDP program passed on may wait for
	// its skb, or the next XDP program.
	bufferPatience = time.Second
)

// programFlags choose the BPF programs of others to trace.
type programFlags struct{ tc, xdp bool }

func (f *programFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&f.tc, "trace-tc", false, "show the runs of tc programs (BPF classifiers and actions, tcx) with their action; those loaded later too")
	flags.BoolVar(&f.xdp, "trace-xdp", false, "show the runs of XDP programs with their action, and follow packets from there; those loaded later too")
}

// check refuses what cannot be shown without returns.
func (f *programFlags) check(entryOnly bool) error {
	if !entryOnly || !f.any() {
		return nil
	}
	return fmt.Errorf("read --%s: what a program decides is known at its return: leave --entry-only out", f.names()[0])
}

func (f *programFlags) any() bool { return f.tc || f.xdp }

// names are the flags that were given, without dashes.
func (f *programFlags) names() []string {
	var names []string
	if f.tc {
		names = append(names, "trace-tc")
	}
	if f.xdp {
		names = append(names, "trace-xdp")
	}
	return names
}

func (f *programFlags) hooks() []event.Hook {
	var hooks []event.Hook
	if f.tc {
		hooks = append(hooks, event.HookTC)
	}
	if f.xdp {
		hooks = append(hooks, event.HookXDP)
	}
	return hooks
}

// checkKernel says in one sentence what the kernel lacks. has is
// features.HaveProgramType; jit is what /proc/sys/net/core/bpf_jit_enable says, ""
// unknown.
func (f *programFlags) checkKernel(has func(ebpf.ProgramType) error, jit string) error {
	if !f.any() {
		return nil
	}
	flag := "--" + f.names()[0]
	needs := []struct {
		t      ebpf.ProgramType
		wanted bool
		what   string
	}{
		{ebpf.Tracing, true, "has no BPF trampolines (CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF)"},
		{ebpf.SchedCLS, f.tc, "has no tc programs (CONFIG_NET)"},
		{ebpf.XDP, f.xdp, "has no XDP programs (CONFIG_NET)"},
	}
	for _, need := range needs {
		if need.wanted && errors.Is(has(need.t), ebpf.ErrNotSupported) {
			return &statusError{exitCannotTrace, fmt.Errorf("read %s: this kernel %s: leave the flag out", flag, need.what)}
		}
	}
	if enabled, err := strconv.Atoi(jit); err == nil && enabled == 0 {
		return &statusError{exitCannotTrace, fmt.Errorf("read %s: BPF programs can be traced only when they are compiled: run 'sysctl net.core.bpf_jit_enable=1' and load them anew", flag)}
	}
	return nil
}

// programs traces the BPF programs of others during a run. Nil does nothing.
type programs struct {
	tracer  *probe.ProgramTracer
	objects *bpf.Objects
	flags   programFlags
	logger  *slog.Logger
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// checkPrograms asks the running kernel whether it can trace programs.
func checkPrograms(f programFlags) error {
	return f.checkKernel(features.HaveProgramType, firstLine("/proc/sys/net/core/bpf_jit_enable"))
}

// tracePrograms probes the programs that are loaded.
func tracePrograms(f programFlags, objects *bpf.Objects, options bpf.Options, logger *slog.Logger) (*programs, error) {
	if !f.any() {
		return nil, nil
	}
	p := &programs{
		tracer:  probe.NewProgramTracer(bpf.NewRunTracer(objects, options), f.hooks(), logger),
		objects: objects, flags: f, logger: logger, stop: func() {},
	}
	if f.xdp {
		p.tracer.FollowCopies()
	}
	if err := p.tracer.Scan(); err != nil {
		return nil, errors.Join(err, p.tracer.Close())
	}
	return p, nil
}

// String says how many programs are traced.
func (p *programs) String() string { return p.flags.describe(p.tracer.Traced()) }

// describe is one line about the programs at the start.
func (f *programFlags) describe(probed int, failed uint64) string {
	var kinds []string
	for _, name := range f.names() {
		kinds = append(kinds, strings.TrimPrefix(name, "trace-"))
	}
	text := fmt.Sprintf("tracing %d %s programs, and those that are loaded from now on", probed, strings.Join(kinds, " and "))
	if probed == 0 {
		text = fmt.Sprintf("no %s program is loaded that can be traced: those that are loaded from now on will be", strings.Join(kinds, " or "))
	}
	if failed > 0 {
		text += fmt.Sprintf("; %d cannot be traced", failed)
	}
	return text
}

// accompany looks for new programs, and ends what XDP programs passed on for good,
// until close.
func (p *programs) accompany(monoNs func() uint64) {
	if p == nil {
		return
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	p.ended.Go(func() {
		ticker := time.NewTicker(programInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := errors.Join(p.tracer.Scan(), p.forget(monoNs()-uint64(bufferPatience))); err != nil {
				p.logger.Warn("programs that are loaded from now on are not traced", "error", err)
				return
			}
		}
	})
}

func (p *programs) forget(beforeMonoNs uint64) error {
	if !p.flags.xdp {
		return nil
	}
	return p.objects.ForgetBuffers(beforeMonoNs)
}

// close detaches; what still waits for an skb ends as its program said.
func (p *programs) close() error {
	if p == nil {
		return nil
	}
	p.stop()
	p.ended.Wait()
	return errors.Join(p.tracer.Close(), p.forget(^uint64(0)))
}

// misses and open are the runs that the kernel did not report, and those whose
// return was not seen.
func (p *programs) misses() (uint64, error) {
	if p == nil {
		return 0, nil
	}
	return p.tracer.RecursionMisses()
}

func (p *programs) open() (uint64, error) {
	if p == nil {
		return 0, nil
	}
	return p.objects.OpenRuns()
}

// name implements what liveNames asks for.
func (p *programs) name(fn uint64) string {
	if p == nil {
		return ""
	}
	return p.tracer.Name(fn)
}
