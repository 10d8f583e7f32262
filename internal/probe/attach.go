package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// AttachOptions say what to attach to and how.
type AttachOptions struct {
	Backend   Backend
	Functions []Function
	EntryOnly bool // no returns
	// Filters are those whose rules are told; RulePrograms(Filters) are loaded.
	Filters kernel.PacketFilters
	// Address gives the address of the only function of a name, 0 where several have it
	// or it is not known, and an os.ErrNotExist where none has it; BackendKprobe attaches
	// by it. Nil means that none is known.
	Address func(symbol string) (uint64, error)
	// Progress is called with the number of functions that are attached by
	// now; from one goroutine at a time. Nil is allowed.
	Progress func(done int)
}

// Attachment is what is attached. Nothing of it outlives the process.
type Attachment struct {
	entries, returns, ends []io.Closer
	// Attached is the number of functions whose entry is probed.
	Attached int
	// Refused are the functions that the kernel would not attach to.
	Refused []Skipped
}

// Attach makes the probes live: first what ends the tracking of an skb, then
// the returns, then the entries, so that nothing begins that can't be ended.
// On error nothing stays attached. An error of a cancelled ctx is ctx.Err().
func Attach(ctx context.Context, objects *bpf.Objects, o AttachOptions) (*Attachment, error) {
	a := &Attachment{}
	err := a.attachAll(ctx, objects, o)
	if err == nil && a.Attached == 0 {
		err = a.nothingAttached()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Attachment) attachAll(ctx context.Context, objects *bpf.Objects, o AttachOptions) error {
	if err := a.attachTracepoints(objects); err != nil {
		return err
	}
	at := attacher{programs: objects.Programs, backend: o.Backend}
	if o.Backend == BackendKprobe {
		at.singles = newSingles(o.Address)
	}
	if err := a.attachSockets(at); err != nil {
		return err
	}
	if err := a.attachRules(at, o.Filters); err != nil {
		return err
	}
	if o.Backend == BackendSession {
		return a.attachSession(objects, at, o)
	}
	if err := a.attachEnds(at, endFunctions()); err != nil {
		return err
	}
	if o.Backend == BackendMulti {
		return a.attachMulti(objects, o)
	}
	return a.attachSingles(ctx, at, o)
}

func (a *Attachment) nothingAttached() error {
	if len(a.Refused) == 0 {
		return errors.New("attach probes: there is no function to attach to")
	}
	first := a.Refused[0]
	return fmt.Errorf("attach probes: the kernel refused all %d functions, %s because: %s",
		len(a.Refused), first.Name, first.Reason)
}

// attachTracepoints attaches to where most skbs end.
func (a *Attachment) attachTracepoints(objects *bpf.Objects) error {
	for _, name := range []string{bpf.ProgramKfreeSkb, bpf.ProgramConsumeSkb} {
		tp, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: objects.Programs[name]})
		if err != nil {
			return fmt.Errorf("attach to tracepoint skb:%s: %w", name, err)
		}
		a.ends = append(a.ends, tp)
	}
	return nil
}

// attachEnds gives those of the freeing functions that this kernel has a probe
// of their own.
func (a *Attachment) attachEnds(at attacher, ends []endFunction) error {
	links, err := attachAtOnce(ends, func(end endFunction) ([]io.Closer, error) {
		l, err := at.entry(end.function, end.program)
		if err != nil {
			return nil, fmt.Errorf("attach to %s, which frees an skb: %w", end.function, err)
		}
		return []io.Closer{l}, nil
	})
	a.ends = append(a.ends, links...)
	return err
}

// attacher attaches programs to functions by their names, in the backend's way.
type attacher struct {
	programs map[string]*ebpf.Program
	backend  Backend
	singles  singles // of BackendKprobe; the zero value goes by name
}

// entry attaches a program to the entry of one function.
func (at attacher) entry(function, program string) (io.Closer, error) {
	if at.backend == BackendKprobe {
		return at.singles.attach(at.programs[program], function, atEntry)
	}
	return link.KprobeMulti(at.programs[program], link.KprobeMultiOptions{Symbols: []string{function}})
}

// ret attaches a program to the return of one function.
func (at attacher) ret(function, program string) (io.Closer, error) {
	if at.backend == BackendKprobe {
		return at.singles.attach(at.programs[program], function, atReturn)
	}
	return link.KretprobeMulti(at.programs[program], link.KprobeMultiOptions{Symbols: []string{function}})
}

// attachAtOnce attaches to several functions that have nothing to do with one
// another, all at once: a single kprobe is slow and mostly waits. What this kernel
// lacks (inlined or renamed: docs/kernels.md) is left out. With an error, what was
// attached is given too.
func attachAtOnce[F any](functions []F, attach func(F) ([]io.Closer, error)) ([]io.Closer, error) {
	var (
		wg    sync.WaitGroup
		links = make([][]io.Closer, len(functions))
		errs  = make([]error, len(functions))
	)
	for i, f := range functions {
		wg.Go(func() { links[i], errs[i] = attach(f) })
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrInvalid) {
			errs[i] = nil
		}
	}
	return slices.Concat(links...), errors.Join(errs...)
}

// attachMulti makes one link for each program, for all of its functions.
func (a *Attachment) attachMulti(objects *bpf.Objects, o AttachOptions) error {
	groups := make(map[string][]Function)
	for _, f := range o.Functions {
		groups[f.program()] = append(groups[f.program()], f)
	}
	if !o.EntryOnly {
		attach := func(opts link.KprobeMultiOptions) (io.Closer, error) {
			return link.KretprobeMulti(objects.Programs[bpf.ProgramLeave], opts)
		}
		// A function that refuses its return is left out of the entries below.
		links, refused, err := attachGroup(o.Functions, attach)
		if err != nil {
			return fmt.Errorf("attach to the returns: %w", err)
		}
		a.returns = append(a.returns, links...)
		a.Refused = append(a.Refused, refused...)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		attach := func(opts link.KprobeMultiOptions) (io.Closer, error) {
			return link.KprobeMulti(objects.Programs[name], opts)
		}
		group := without(groups[name], a.Refused)
		links, refused, err := attachGroup(group, attach)
		if err != nil {
			return fmt.Errorf("attach program %s: %w", name, err)
		}
		a.entries = append(a.entries, links...)
		a.Refused = append(a.Refused, refused...)
		a.Attached += len(group) - len(refused)
		if o.Progress != nil {
			o.Progress(a.Attached)
		}
	}
	return nil
}

// attachGroup attaches to all functions with one link. The kernel refuses all
// when it refuses one, so a refused group is halved until the culprits stand
// alone; they come back as refused.
func attachGroup(functions []Function, attach func(link.KprobeMultiOptions) (io.Closer, error)) ([]io.Closer, []Skipped, error) {
	if len(functions) == 0 {
		return nil, nil, nil
	}
	l, err := attach(multiOptions(functions))
	if err == nil {
		return []io.Closer{l}, nil, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, nil, err
	}
	if len(functions) == 1 {
		return nil, []Skipped{{Name: functions[0].Name, Module: functions[0].Module, Reason: err.Error()}}, nil
	}
	half := len(functions) / 2
	links, refused, err := attachGroup(functions[:half], attach)
	if err != nil {
		return nil, nil, err
	}
	more, alsoRefused, err := attachGroup(functions[half:], attach)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(links))
	}
	return append(links, more...), append(refused, alsoRefused...), nil
}

// multiOptions names the functions by address where all are known: the kernel
// then need not look 1,500 symbols up, which takes twice as long.
func multiOptions(functions []Function) link.KprobeMultiOptions {
	addresses := make([]uintptr, 0, len(functions))
	symbols := make([]string, 0, len(functions))
	for _, f := range functions {
		symbols = append(symbols, f.symbol())
		if f.Addr != 0 {
			addresses = append(addresses, uintptr(f.Addr))
		}
	}
	if len(addresses) == len(functions) {
		return link.KprobeMultiOptions{Addresses: addresses}
	}
	return link.KprobeMultiOptions{Symbols: symbols}
}

// Missed sums the hits that the kernel's multi links left out because of
// recursion (Linux 6.7+, else 0).
func (a *Attachment) Missed() uint64 {
	var sum uint64
	for _, l := range slices.Concat(a.entries, a.returns) {
		multi, ok := l.(link.Link)
		if !ok {
			continue // single kprobes cannot be asked
		}
		info, err := multi.Info()
		if err != nil {
			continue
		}
		if multi := info.KprobeMulti(); multi != nil {
			sum += multi.Missed
		}
	}
	return sum
}

// Close detaches everything: the entries first, so that no frame begins whose
// return is no longer seen.
func (a *Attachment) Close() error {
	err := errors.Join(closeAll(a.entries), closeAll(a.returns), closeAll(a.ends))
	a.entries, a.returns, a.ends = nil, nil, nil
	return err
}

// closers bounds the goroutines that detach; each waits for RCU in the kernel.
const closers = 64

func closeAll(links []io.Closer) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		gate = make(chan struct{}, closers)
	)
	for _, l := range links {
		wg.Add(1)
		gate <- struct{}{}
		go func() {
			defer wg.Done()
			if err := l.Close(); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("detach probe: %w", err))
				mu.Unlock()
			}
			<-gate
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}
