package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Names of the programs of the block objects; block_programs.h defines them.
// Those for tracepoints are loaded as BTF tracepoints, and have a second one each, of the
// same name and AgainSuffix, except in the object for older kernels. ProgramExecute… are
// loaded as fentry.
const (
	ProgramBioQueue       = "bio_queue"
	ProgramBioComplete    = "bio_complete"
	ProgramBioRemap       = "bio_remap"
	ProgramBioSplit       = "bio_split"
	ProgramRequestInsert  = "rq_insert"
	ProgramRequestIssue   = "rq_issue"
	ProgramRequestRequeue = "rq_requeue"
	ProgramRequestEnd     = "rq_complete"
	ProgramWritebackBegin = "writeback_begin"
	ProgramWritebackEnd   = "writeback_end"
	ProgramExecute        = "execute_wait"
	ProgramExecuteNoWait  = "execute_nowait"
	ProgramLoopBegin      = "loop_begin"
	ProgramLoopEnd        = "loop_end"
)

// AgainSuffix ends the names of programs that stand in for another one where the kernel
// leaves that out because it is running on the CPU already.
const AgainSuffix = "_again"

// MaxBlockDevices is how many devices BlockOptions can name: MAX_DEVICES of
// block_state.h.
const MaxBlockDevices = 8

// BlockArguments are the positions, counted from 0, of the request or bio among
// the arguments of each tracepoint, and of blk_execute_rq's request. A
// struct request_queue came first on older kernels.
type BlockArguments struct {
	Issue, Insert, Requeue, Complete, Queue, BioComplete, Remap, Split, Execute int
}

// BlockOptions say what the block programs are to report.
type BlockOptions struct {
	// Programs are the names of those to load.
	Programs []string
	Records  bool // send a record for each request
	// Histogram counts latencies in the kernel, by the number of a
	// blockio.By.
	Histogram bool
	By        uint8
	Bios      bool // ProgramBioQueue is among Programs
	// OldKernel chooses the object for kernels before 5.17.
	OldKernel bool
	// LoopMulti loads ProgramLoop… for kprobe.multi.
	LoopMulti bool
	// StatusErrno says that block_rq_complete reports an errno, not a
	// blk_status_t.
	StatusErrno bool
	Arguments   BlockArguments

	Devices      []uint32 // dev_t: major << 20 | minor; none: all
	Operations   uint64   // a bit for each operation; 0: all
	TGID         uint32   // 0: any
	CgroupID     uint64   // 0: any; else that one and those below it
	CgroupLevel  int      // its depth below the root
	MinLatencyNs uint64
	// SampleThreshold leaves out what has less randomness; 0: nothing.
	SampleThreshold uint64
	OwnTGID         uint32 // the process whose own requests are left out; 0: none

	// Contexts is the map with the spans that threads are in (OpenContexts); nil: none
	// is known. LoadBlock does not close it.
	Contexts *ebpf.Map
	// Correlate asks for spans of applications.
	Correlate bool

	RingBytes   int
	KernelTypes *btf.Spec // nil: Load reads it
}

// BlockObjects are the loaded block programs and their maps. Close releases
// them; what was attached must be detached first.
type BlockObjects struct {
	Programs  map[string]*ebpf.Program
	LoopMulti bool // as BlockOptions has it
	maps      map[string]*ebpf.Map
	vars      map[string]*ebpf.Variable
	old       bool
}

// LoadBlock creates the maps and loads the programs. A program that the
// verifier refuses is an *ebpf.VerifierError.
func LoadBlock(o BlockOptions) (*BlockObjects, error) {
	if o.KernelTypes == nil {
		types, err := btf.LoadKernelSpec()
		if err != nil {
			return nil, fmt.Errorf("read the kernel's BTF: %w", err)
		}
		o.KernelTypes = types
	}
	load := loadBlock
	if o.OldKernel {
		load = loadBlockOld
	}
	spec, err := load()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	if err := keepPrograms(spec, Options{Programs: o.Programs}); err != nil {
		return nil, err
	}
	if err := applyBlockSettings(spec, o); err != nil {
		return nil, err
	}
	for _, name := range []string{ProgramLoopBegin, ProgramLoopEnd} {
		if program := spec.Programs[name]; program != nil && o.LoopMulti {
			program.AttachType = ebpf.AttachTraceKprobeMulti
		}
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: o.KernelTypes},
		MapReplacements: replaceContexts(o.Contexts),
	})
	if err != nil {
		return nil, fmt.Errorf("load BPF programs: %w", err)
	}
	return &BlockObjects{
		Programs:  collection.Programs,
		LoopMulti: o.LoopMulti,
		maps:      collection.Maps,
		vars:      collection.Variables,
		old:       o.OldKernel,
	}, nil
}

// applyBlockSettings writes the constants that the programs are verified with,
// and the sizes of maps; what a run does not use takes no memory.
func applyBlockSettings(spec *ebpf.CollectionSpec, o BlockOptions) error {
	if len(o.Devices) > MaxBlockDevices {
		return fmt.Errorf("filter by %d devices: at most %d can be named", len(o.Devices), MaxBlockDevices)
	}
	settings := blockBlockSettings{
		Operations:     o.Operations,
		Cgroup:         o.CgroupID,
		MinLatencyNs:   o.MinLatencyNs,
		CgroupLevel:    uint32(o.CgroupLevel),
		Tgid:           o.TGID,
		OwnTgid:        o.OwnTGID,
		WakeupBytes:    uint32(o.RingBytes / wakeupShare),
		DeviceCount:    uint32(len(o.Devices)),
		Records:        flag(o.Records),
		Histogram:      flag(o.Histogram),
		By:             o.By,
		Bios:           flag(o.Bios),
		StatusErrno:    flag(o.StatusErrno),
		IssueArg:       uint8(o.Arguments.Issue),
		InsertArg:      uint8(o.Arguments.Insert),
		RequeueArg:     uint8(o.Arguments.Requeue),
		CompleteArg:    uint8(o.Arguments.Complete),
		QueueArg:       uint8(o.Arguments.Queue),
		BioCompleteArg: uint8(o.Arguments.BioComplete),
		RemapArg:       uint8(o.Arguments.Remap),
		SplitArg:       uint8(o.Arguments.Split),
		ExecuteArg:     uint8(o.Arguments.Execute),
		Contexts:       flag(o.Correlate),

		SampleThreshold: o.SampleThreshold,
	}
	copy(settings.Devices[:], o.Devices)
	if err := spec.Variables["settings"].Set(settings); err != nil {
		return fmt.Errorf("write BPF settings: %w", err)
	}
	spec.Maps["ring"].MaxEntries = uint32(o.RingBytes)
	if !o.Records {
		spec.Maps["ring"].MaxEntries = uint32(os.Getpagesize())
	}
	if !o.Histogram || o.By == 0 {
		spec.Maps["histograms"].MaxEntries = 1
	}
	return applyApplications(spec, o.Correlate, o.Contexts, o.KernelTypes)
}

// Ring is the ring buffer that the records come through.
func (o *BlockObjects) Ring() *ebpf.Map { return o.maps["ring"] }

// Close releases programs and maps.
func (o *BlockObjects) Close() error {
	var errs []error
	for _, program := range o.Programs {
		errs = append(errs, program.Close())
	}
	for _, m := range o.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

func decodeBlock(raw *[blockRecordBytes]byte, block *event.Block) {
	*block = event.Block{
		Flags:          event.BlockFlags(raw[1]),
		CPU:            u16(raw[2:]),
		Operation:      u32(raw[4:]),
		ID:             u64(raw[8:]),
		Parent:         u64(raw[16:]),
		Address:        u64(raw[24:]),
		InsertMonoNs:   u64(raw[32:]),
		IssueMonoNs:    u64(raw[40:]),
		CompleteMonoNs: u64(raw[48:]),
		Sector:         u64(raw[56:]),
		SubmitMonoNs:   u64(raw[64:]),
		Cgroup:         u64(raw[72:]),
		TGID:           u32(raw[80:]),
		TID:            u32(raw[84:]),
		Comm:           [16]byte(raw[88:104]),
		App:            event.AppContext{TraceID: [16]byte(raw[104:120]), SpanID: [8]byte(raw[120:128])},
		Device:         u32(raw[128:]),
		Partition:      u32(raw[132:]),
		Bytes:          u32(raw[136:]),
		Done:           u32(raw[140:]),
		Status:         int32(u32(raw[144:])),
		IOPriority:     u16(raw[148:]),
		Bios:           u16(raw[150:]),
		Requeues:       u16(raw[152:]),
		AppSource:      event.AppSource(raw[154]),
		AppFlags:       event.AppFlags(raw[155]),
	}
}
