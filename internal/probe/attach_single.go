package probe

import (
	"context"
	"io"
	"sync"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// attachers bounds the goroutines that attach single kprobes. The kernel
// serialises most of the work, but not the waiting for RCU.
const attachers = 32

// attachSingles gives every function a kprobe and, unless entryOnly, a
// kretprobe.
func (a *Attachment) attachSingles(ctx context.Context, at attacher, o AttachOptions) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		gate = make(chan struct{}, attachers)
	)
	for _, f := range o.Functions {
		if ctx.Err() != nil {
			break
		}
		wg.Add(1)
		gate <- struct{}{}
		go func() {
			defer wg.Done()
			entry, ret, err := attachSingle(at, f, o.EntryOnly)
			<-gate
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.Refused = append(a.Refused, Skipped{Name: f.Name, Module: f.Module, Reason: err.Error()})
				return
			}
			a.entries = append(a.entries, entry)
			if ret != nil {
				a.returns = append(a.returns, ret)
			}
			a.Attached++
			if o.Progress != nil {
				o.Progress(a.Attached)
			}
		}()
	}
	wg.Wait()
	return ctx.Err()
}

// attachSingle attaches the return first, so that no entry goes unanswered.
func attachSingle(at attacher, f Function, entryOnly bool) (entry, ret io.Closer, err error) {
	if !entryOnly {
		ret, err = at.singles.attachAt(at.programs[bpf.ProgramLeave], f.symbol(), f.Addr, atReturn)
		if err != nil {
			return nil, nil, err
		}
	}
	entry, err = at.singles.attachAt(at.programs[f.program()], f.symbol(), f.Addr, atEntry)
	if err != nil {
		if ret != nil {
			_ = ret.Close() // the first error is the one that tells the cause
		}
		return nil, nil, err
	}
	return entry, ret, nil
}

// without leaves out the functions that were refused.
func without(functions []Function, refused []Skipped) []Function {
	if len(refused) == 0 {
		return functions
	}
	gone := make(map[[2]string]bool, len(refused))
	for _, s := range refused {
		gone[[2]string{s.Module, s.Name}] = true
	}
	kept := make([]Function, 0, len(functions))
	for _, f := range functions {
		if !gone[[2]string{f.Module, f.Name}] {
			kept = append(kept, f)
		}
	}
	return kept
}
