package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// BlockAttachment is what is attached to the block layer. Nothing of it outlives
// the process.
type BlockAttachment struct {
	begins []io.Closer // after them nothing new is followed
	ends   []io.Closer
	// LoopMissing says why the loop driver's function is not probed though it is
	// loaded: requests below loop devices are not joined with those above.
	LoopMissing error
}

// blockProbe is one program and what it is attached to.
type blockProbe struct {
	program    string
	tracepoint string // "" for a function
	function   string
	begins     bool // something is followed from here on
	bios       bool // needed only to know bios
	interrupts bool // runs in interrupts, too, not only in threads
}

// blockProbes lists the programs in the order in which they are attached: what
// ends a request or bio first, so that nothing begins that can't be ended.
func blockProbes() []blockProbe {
	return []blockProbe{
		{program: bpf.ProgramRequestEnd, tracepoint: kernel.TracepointRequestComplete, interrupts: true},
		{program: bpf.ProgramBioComplete, tracepoint: kernel.TracepointBioComplete, bios: true, interrupts: true},
		{program: bpf.ProgramWritebackEnd, tracepoint: kernel.TracepointWritebackWritten, bios: true},
		{program: bpf.ProgramRequestRequeue, tracepoint: kernel.TracepointRequestRequeue, interrupts: true},
		{program: bpf.ProgramRequestIssue, tracepoint: kernel.TracepointRequestIssue, begins: true, interrupts: true},
		{program: bpf.ProgramRequestInsert, tracepoint: kernel.TracepointRequestInsert, bios: true},
		{program: bpf.ProgramBioSplit, tracepoint: kernel.TracepointSplit, bios: true},
		{program: bpf.ProgramBioRemap, tracepoint: kernel.TracepointBioRemap, bios: true},
		{program: bpf.ProgramWritebackBegin, tracepoint: kernel.TracepointWritebackStart, bios: true},
		{program: bpf.ProgramExecute, function: "blk_execute_rq", begins: true, bios: true},
		{program: bpf.ProgramExecuteNoWait, function: "blk_execute_rq_nowait", begins: true, bios: true},
		{program: bpf.ProgramBioQueue, tracepoint: kernel.TracepointBioQueue, begins: true, bios: true},
	}
}

// BlockNeeds says which programs a run needs.
type BlockNeeds struct {
	Bios      bool // submissions are to be seen as well
	Loop      bool // the loop driver is loaded
	OldKernel bool // as bpf.BlockOptions has it
}

// BlockPrograms names the needed programs that the kernel of these signatures has
// a place for.
func BlockPrograms(signatures kernel.BlockSignatures, need BlockNeeds) []string {
	var names []string
	for _, p := range blockProbes() {
		if p.bios && !need.Bios || !p.present(signatures) {
			continue
		}
		names = append(names, p.program)
		if p.tracepoint != "" && !need.OldKernel && (p.interrupts || signatures.Preempted) {
			names = append(names, p.program+bpf.AgainSuffix)
		}
	}
	if need.Bios && need.Loop {
		names = append(names, bpf.ProgramLoopBegin, bpf.ProgramLoopEnd)
	}
	return names
}

func (p blockProbe) present(s kernel.BlockSignatures) bool {
	switch p.program {
	case bpf.ProgramExecute:
		return s.Execute >= 0
	case bpf.ProgramExecuteNoWait:
		return s.ExecuteNoWait >= 0 && s.ExecuteNoWait == s.Execute
	}
	return s.Tracepoints[p.tracepoint].Present
}

// BlockArguments gives the positions that the programs are loaded with.
func BlockArguments(s kernel.BlockSignatures) bpf.BlockArguments {
	at := func(name string) int { return max(s.Tracepoints[name].Object, 0) }
	return bpf.BlockArguments{
		Issue:       at(kernel.TracepointRequestIssue),
		Insert:      at(kernel.TracepointRequestInsert),
		Requeue:     at(kernel.TracepointRequestRequeue),
		Complete:    at(kernel.TracepointRequestComplete),
		Queue:       at(kernel.TracepointBioQueue),
		BioComplete: at(kernel.TracepointBioComplete),
		Remap:       at(kernel.TracepointBioRemap),
		Split:       at(kernel.TracepointSplit),
		Execute:     max(s.Execute, 0),
	}
}

// loopFunctions are the names that compilers give to the function of the loop
// driver in which a thread serves one request.
func loopFunctions() []string {
	return []string{"lo_rw_aio.isra.0", "lo_rw_aio", "lo_rw_aio.constprop.0", "lo_rw_aio.constprop.0.isra.0"}
}

// AttachBlock makes the loaded programs live. On error nothing stays attached.
func AttachBlock(objects *bpf.BlockObjects) (*BlockAttachment, error) {
	a := &BlockAttachment{}
	if err := a.attachAll(objects); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *BlockAttachment) attachAll(objects *bpf.BlockObjects) error {
	if objects.Programs[bpf.ProgramLoopEnd] != nil {
		if err := a.attachLoop(objects); err != nil {
			return err
		}
	}
	for _, p := range blockProbes() {
		for _, name := range []string{p.program, p.program + bpf.AgainSuffix} {
			if program := objects.Programs[name]; program != nil {
				if err := a.attach(program, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *BlockAttachment) attach(program *ebpf.Program, p blockProbe) error {
	l, err := attachTracing(program, p)
	if err != nil {
		return err
	}
	if p.begins {
		a.begins = append(a.begins, l)
	} else {
		a.ends = append(a.ends, l)
	}
	return nil
}

func attachTracing(program *ebpf.Program, p blockProbe) (link.Link, error) {
	o := link.TracingOptions{Program: program, AttachType: ebpf.AttachTraceRawTp}
	what := p.tracepoint
	if p.function != "" {
		o.AttachType, what = ebpf.AttachTraceFEntry, p.function
	}
	l, err := link.AttachTracing(o)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", what, err)
	}
	return l, nil
}

// attachLoop probes the loop driver. Where the kernel lets us not, requests below a loop
// device are shown apart (LoopMissing).
func (a *BlockAttachment) attachLoop(objects *bpf.BlockObjects) error {
	at := attacher{programs: objects.Programs, backend: BackendKprobe}
	if objects.LoopMulti {
		at.backend = BackendMulti
	}
	for _, function := range loopFunctions() {
		end, err := at.ret(function, bpf.ProgramLoopEnd)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case errors.Is(err, os.ErrPermission):
			a.LoopMissing = fmt.Errorf("single kprobes are not permitted, see 'otel-kprobe check': %w", err)
			return nil
		case err != nil:
			return fmt.Errorf("attach to the return of %s: %w", function, err)
		}
		a.ends = append(a.ends, end)
		begin, err := at.entry(function, bpf.ProgramLoopBegin)
		if err != nil {
			return fmt.Errorf("attach to %s: %w", function, err)
		}
		a.ends = append(a.ends, begin)
		return nil
	}
	a.LoopMissing = errors.New("its function was not found")
	return nil
}

// Attached is the number of probes that are live.
func (a *BlockAttachment) Attached() int { return len(a.begins) + len(a.ends) }

// Close detaches: first what begins, so that what is still followed can end.
func (a *BlockAttachment) Close() error {
	var errs []error
	for _, l := range slices.Concat(a.begins, a.ends) {
		errs = append(errs, l.Close())
	}
	a.begins, a.ends = nil, nil
	return errors.Join(errs...)
}
