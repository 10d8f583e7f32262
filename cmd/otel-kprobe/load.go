package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/filter"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// loaded are the programs in the kernel.
type loaded struct {
	objects *bpf.Objects
	options bpf.Options          // that they were loaded with
	filters kernel.PacketFilters // of which they tell the rules
}

// attached is a kernel that reports to us.
type attached struct {
	loaded
	attachment *probe.Attachment
	backend    probe.Backend
	symbols    func() (*kernel.Symbols, error) // read at the first call
	skipped    int
	skbFields  []event.SkbField // what --skb-fields names
	took       time.Duration    // from the start to now
}

// attach selects the functions, loads the programs and attaches them. progress
// hears of each function. On error nothing stays behind.
func attach(ctx context.Context, s packetsSettings, logger *slog.Logger, progress func(done, total int)) (*attached, error) {
	start := time.Now()
	backend, why, err := chooseBackend(s)
	if err != nil {
		return nil, err
	}
	if err := checkPrograms(s.programs); err != nil {
		return nil, err
	}
	types := readKernelTypes(s.kernelBTF)
	extras, err := s.extras.resolve(types, s.entryOnly)
	if err != nil {
		return nil, err
	}
	symbols := kernel.LazySymbols(kernel.KallsymsPath)
	selection, err := selectFunctions(backend, s, symbols)
	if err != nil {
		return nil, err
	}
	if why != "" {
		logger.Info("backend "+string(backend), "why", why)
	}
	functions := slices.Concat(selection.Functions, selection.Callees)
	total := len(functions)
	progress(0, total)
	contexts := openContexts(s.output.correlate, logger)
	defer func() { _ = contexts.Close() }() // the programs keep it
	programs, err := loadObjects(bpf.Options{
		Kind:       backend.Kind(),
		Programs:   backend.Programs(functions, s.entryOnly),
		AttachType: backend.AttachType(),
		Extras:     extras.wanted,
		Contexts:   contexts,
		Correlate:  s.output.correlate != correlateOff,
		Payload:    !s.noPayload,
	}, s, types, func() bpf.MemoryBases { return memoryBases(symbols, logger) })
	if err != nil {
		return nil, explainRefusal(err)
	}
	attachment, err := probe.Attach(ctx, programs.objects, probe.AttachOptions{
		Backend:   backend,
		Functions: functions,
		EntryOnly: s.entryOnly,
		Filters:   programs.filters,
		Address:   addresses(backend, symbols),
		Progress:  func(done int) { progress(done, total) },
	})
	if err != nil {
		_ = programs.objects.Close() // err tells what went wrong first
		return nil, explainRefusal(err)
	}
	if refused := attachment.Refused; len(refused) > 0 {
		logger.Info("the kernel refused probes", "count", len(refused),
			"first", refused[0].Name, "reason", refused[0].Reason)
	}
	return &attached{
		loaded:     programs,
		attachment: attachment,
		backend:    backend,
		symbols:    symbols,
		skipped:    len(selection.Skipped) + len(selection.SkippedCallees) + len(attachment.Refused),
		skbFields:  extras.fields,
		took:       time.Since(start),
	}, nil
}

// addresses is AttachOptions.Address, nil when symbols are not needed or hidden.
func addresses(backend probe.Backend, symbols func() (*kernel.Symbols, error)) func(string) (uint64, error) {
	if backend != probe.BackendKprobe {
		return nil
	}
	known, err := symbols()
	if err != nil {
		return nil
	}
	return known.Address
}

// chooseBackend takes the one that was asked for, or the best that there is; why
// says what keeps that from being the best of all.
func chooseBackend(s packetsSettings) (backend probe.Backend, why string, err error) {
	findings := kernel.CheckWith(s.kernelBTF)
	if err := kernel.CannotTrace(findings); err != nil {
		return "", "", err
	}
	name, why := kernel.ChooseBackend(findings)
	switch {
	case s.backend != "auto" && s.backend != name:
		return probe.Backend(s.backend), "", kernel.CheckBackend(findings, s.backend)
	case name == probe.BackendSession:
		return probe.BackendSession, "", nil
	}
	return probe.Backend(name), why, nil
}

// selectFunctions applies --filter-func and --non-skb-funcs; a pattern without a
// match is the user's mistake.
func selectFunctions(backend probe.Backend, s packetsSettings, symbols func() (*kernel.Symbols, error)) (probe.Selection, error) {
	tracefs, err := kernel.TracefsDir()
	if err != nil {
		return probe.Selection{}, err
	}
	sources := probe.SystemSources(tracefs)
	sources.Symbols, sources.Vmlinux = symbols, s.kernelBTF
	selection, err := probe.Select(sources, probe.Options{
		Pattern: s.function,
		Modules: s.modules,
		NonSkb:  s.nonSkb.pattern,
		Backend: string(backend),
	})
	if err != nil {
		return selection, err
	}
	if err := selection.HasModules(s.modules, s.funcText); err != nil {
		return selection, usageError(err)
	}
	if err := selection.Usable(s.funcText); err != nil {
		return selection, usageError(err)
	}
	if err := selection.UsableCallees(s.nonSkb.text, string(backend)); err != nil {
		return selection, usageError(fmt.Errorf("read --non-skb-funcs: %w", err))
	}
	return selection, usageError(selection.Begins(s.funcText))
}

// loadObjects loads the programs that o names with the filters built in.
func loadObjects(o bpf.Options, s packetsSettings, types func() (kernelTypes, error), bases func() bpf.MemoryBases) (l loaded, err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return l, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	if o.Correlate && o.Payload {
		o.Bases = bases()
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return l, fmt.Errorf("count CPUs: %w", err)
	}
	o.RingBytes, o.CPUs = s.run.ringBytes, cpus
	o.NetNS, o.Mark, o.MarkMask, o.Interface = s.netns, s.mark.Value, s.mark.Mask, s.ifname
	o.Owner, o.Tunnel = s.owner, s.tunnel != nil
	o.Sheds, o.SampleThreshold = s.maxEvents > 0, s.sample
	o.EntryOnly, o.Callees = s.entryOnly, s.nonSkb.pattern != nil
	o.TraceTC, o.TraceXDP = s.programs.tc, s.programs.xdp
	if o.Correlate {
		o.Programs = append(o.Programs, bpf.ProgramApplicationStatement)
	}
	if s.programs.xdp {
		o.Programs = append(o.Programs, bpf.ProgramForgetBuffer)
	}
	if l.filters, err = adaptToKernel(&o, s.pcap, s.tunnel, types); err != nil {
		return l, err
	}
	l.options = o
	l.objects, err = bpf.Load(o)
	return l, err
}

// memoryBases gives what packets' data in pages are found by. Before Linux 5.16 all
// symbols are read for it, which the backend of such kernels needs, too.
func memoryBases(symbols func() (*kernel.Symbols, error), logger *slog.Logger) bpf.MemoryBases {
	bases, err := bpf.LookUpMemoryBases()
	if errors.Is(err, ebpf.ErrNotSupported) {
		var known *kernel.Symbols
		if known, err = symbols(); err == nil {
			bases.PageOffset, bases.Vmemmap = known.MemoryBases()
		}
	}
	if err != nil || bases.PageOffset == 0 || bases.Vmemmap == 0 {
		logger.Info("requests in packets are found in part only", "why", err)
	}
	return bases
}

// kernelTypes is what programs are adapted to, from the BTF of vmlinux.
type kernelTypes struct {
	spec      *btf.Spec
	hasReason bool // see hasDropReason
}

// readKernelTypes begins to read the kernel's BTF and gives what waits for it.
// It takes as long as choosing the functions, which other readers of BTF do:
// this one is the library's, which also relocates programs by it.
func readKernelTypes(file string) func() (kernelTypes, error) {
	read := sync.OnceValues(func() (kernelTypes, error) {
		spec, err := loadTypes(file)
		if err != nil {
			return kernelTypes{}, fmt.Errorf("read the kernel's BTF: %w", err)
		}
		return kernelTypes{spec, hasDropReason(spec)}, nil
	})
	go func() { _, _ = read() }() // the caller asks again
	return read
}

// adaptToKernel sets what depends on the running kernel's BTF and modules.
func adaptToKernel(o *bpf.Options, pcap, tunnel *filter.Program, read func() (kernelTypes, error)) (kernel.PacketFilters, error) {
	types, err := read()
	if err != nil {
		return kernel.PacketFilters{}, err
	}
	modules, err := kernel.LoadedModules(kernel.ModulesPath)
	if err != nil {
		return kernel.PacketFilters{}, err
	}
	filters, err := kernel.ReadPacketFilters(modules, types.spec, btf.LoadKernelModuleSpec)
	if err != nil {
		return filters, err
	}
	programs := probe.RulePrograms(filters)
	o.Programs = append(o.Programs, programs...)
	o.HasRules, o.XTPrivFirst = len(programs) > 0, filters.PrivFirst
	if filters.Types != nil {
		o.ModuleTypes = append(o.ModuleTypes, filters.Types)
	}
	o.HasFuncIP = o.Kind == bpf.Session || kernel.HasFuncIP()
	o.HasReason = types.hasReason
	o.KernelTypes = types.spec
	inject := filter.Options{Mode: filter.LoadProbe}
	if o.Kind == bpf.Session {
		if o.KfuncIDs, err = kfuncIDs(types.spec, bpf.Kfuncs()); err != nil {
			return filters, err
		}
		if inject.Direct, err = filter.ResolveDirect(types.spec); err != nil {
			return filters, err
		}
		inject.Mode = filter.LoadDirect
	}
	o.Filter = func(spec *ebpf.CollectionSpec) error {
		if err := filter.Inject(spec, pcap, inject); err != nil || tunnel == nil {
			return err
		}
		return filter.InjectTunnel(spec, tunnel, inject)
	}
	return filters, nil
}

// hasDropReason is true when the tracepoint skb:kfree_skb has its third
// argument (Linux 5.17, https://git.kernel.org/torvalds/c/c504e5c2f964).
func hasDropReason(types *btf.Spec) bool {
	var tracepoint *btf.Typedef
	if err := types.TypeByName("btf_trace_kfree_skb", &tracepoint); err != nil {
		return false
	}
	pointer, ok := btf.UnderlyingType(tracepoint).(*btf.Pointer)
	if !ok {
		return false
	}
	prototype, ok := btf.UnderlyingType(pointer.Target).(*btf.FuncProto)
	// The first parameter is the tracepoint's own void *.
	return ok && len(prototype.Params) > 3
}

// kfuncIDs looks the BTF ids of kfuncs up.
func kfuncIDs(types *btf.Spec, names []string) (map[string]uint32, error) {
	ids := make(map[string]uint32, len(names))
	for _, name := range names {
		var function *btf.Func
		if err := types.TypeByName(name, &function); err != nil {
			return nil, fmt.Errorf("find kfunc %s: %w", name, err)
		}
		id, err := types.TypeID(function)
		if err != nil {
			return nil, fmt.Errorf("find the id of kfunc %s: %w", name, err)
		}
		ids[name] = uint32(id)
	}
	return ids, nil
}

// explainRefusal says what to do about a kernel that refuses our programs.
func explainRefusal(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return fmt.Errorf("%w (please report this with the output of 'otel-kprobe check' and 'uname -r')", err)
	case errors.Is(err, os.ErrPermission):
		return &statusError{exitCannotTrace, fmt.Errorf("%w (a container's seccomp profile or a security module forbids it: see 'otel-kprobe check')", err)}
	}
	return err
}
