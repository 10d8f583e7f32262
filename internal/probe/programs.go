package probe

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// ProgramHook says at which hook programs of a type run; HookNone: at none that can
// be traced.
func ProgramHook(t ebpf.ProgramType) event.Hook {
	switch t {
	case ebpf.SchedCLS, ebpf.SchedACT:
		return event.HookTC
	case ebpf.XDP:
		return event.HookXDP
	default:
		return event.HookNone
	}
}

// ProgramTracer probes the BPF programs of others at the hooks that it was made
// for: those that are loaded, and at each Scan those loaded since. A program that is
// probed stays in the kernel until Close, also when its owner is done with it. It is
// safe for concurrent use.
type ProgramTracer struct {
	runs   *bpf.RunTracer
	hooks  map[event.Hook]bool
	logger *slog.Logger

	mu     sync.Mutex
	last   ebpf.ProgramID // the newest that was looked at
	traced []*bpf.RunProbe
	copies *bpf.RunProbe     // nil: not followed
	names  map[uint64]string // by event.ProgramFunc
	failed uint64
}

// NewProgramTracer probes nothing before the first Scan. What can't be probed is
// said to logger.
func NewProgramTracer(runs *bpf.RunTracer, hooks []event.Hook, logger *slog.Logger) *ProgramTracer {
	t := &ProgramTracer{runs: runs, hooks: make(map[event.Hook]bool), logger: logger, names: make(map[uint64]string)}
	for _, hook := range hooks {
		t.hooks[hook] = true
	}
	return t
}

// FollowCopies is bpf.RunTracer.AttachCopies, until Close. A kernel that refuses gives
// a trace of its own to what an XDP program is given as a copy; that is said to logger.
func (t *ProgramTracer) FollowCopies() {
	t.mu.Lock()
	defer t.mu.Unlock()
	probe, err := t.runs.AttachCopies()
	if err != nil {
		t.logger.Info("a packet that a driver copies for its XDP program begins a new trace there", "why", err)
		return
	}
	t.copies = probe
}

// Scan probes the programs that were loaded since the last Scan. Without any this is
// one system call. A program that can't be probed is counted, and is no error.
func (t *ProgramTracer) Scan() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		id, err := ebpf.ProgramGetNextID(t.last)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the loaded BPF programs: %w", err)
		}
		t.last = id
		if err := t.look(id); err != nil {
			t.failed++
			t.logger.Warn("a BPF program is not traced", "id", uint32(id), "why", err)
		}
	}
}

// look probes a program if it runs at one of the hooks.
func (t *ProgramTracer) look(id ebpf.ProgramID) error {
	target, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil // unloaded meanwhile
	}
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	defer target.Close()
	hook := ProgramHook(target.Type())
	if !t.hooks[hook] {
		return nil
	}
	info, err := target.Info()
	if err != nil {
		return fmt.Errorf("ask what it is: %w", err)
	}
	function, err := entryFunction(info)
	if err != nil {
		return err
	}
	fn := event.ProgramFunc(hook, uint32(id))
	t.names[fn] = function // before its first run is reported
	probe, err := t.runs.Attach(target, hook, function, fn)
	if err != nil {
		delete(t.names, fn)
		return fmt.Errorf("%s: %w", function, err)
	}
	t.traced = append(t.traced, probe)
	t.logger.Info("tracing a BPF program", "name", function, "id", uint32(id))
	return nil
}

// ErrNoProgramBTF says that a program was loaded without the types that a probe of
// it needs: by a loader without BTF, or compiled without -g.
var ErrNoProgramBTF = errors.New("it was loaded without BTF: compile it with -g and load it with a loader that passes BTF on")

// entryFunction names the function that a program begins with.
func entryFunction(info *ebpf.ProgramInfo) (string, error) {
	if id, ok := info.BTFID(); !ok || id == 0 {
		return "", ErrNoProgramBTF
	}
	functions, err := info.FuncInfos()
	if err != nil {
		return "", fmt.Errorf("read its functions: %w", err)
	}
	return firstFunction(functions)
}

// firstFunction takes the function at the program's first instruction.
func firstFunction(functions btf.FuncOffsets) (string, error) {
	for _, f := range functions {
		if f.Offset != 0 {
			continue
		}
		prototype, ok := btf.UnderlyingType(f.Func.Type).(*btf.FuncProto)
		if !ok || len(prototype.Params) != 1 {
			return "", fmt.Errorf("its BTF does not say that %s takes one argument, the context", f.Func.Name)
		}
		return f.Func.Name, nil
	}
	return "", ErrNoProgramBTF
}

// Name gives the name of a traced program by a frame's Func, "" for others.
func (t *ProgramTracer) Name(fn uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names[fn]
}

// Traced counts the programs that are probed, and those that can't be.
func (t *ProgramTracer) Traced() (probed int, failed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.traced), t.failed
}

// RecursionMisses sums what bpf.RunProbe.RecursionMisses counts.
func (t *ProgramTracer) RecursionMisses() (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum uint64
	for _, probe := range t.traced {
		misses, err := probe.RecursionMisses()
		if err != nil {
			return 0, err
		}
		sum += misses
	}
	return sum, nil
}

// Close detaches from all programs. Names stay known.
func (t *ProgramTracer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, probe := range t.traced {
		errs = append(errs, probe.Close())
	}
	if t.copies != nil {
		errs = append(errs, t.copies.Close())
	}
	t.traced, t.copies = nil, nil
	return errors.Join(errs...)
}
