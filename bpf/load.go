package bpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// slotsPerCPU is SLOTS_PER_CPU of maps.h.
const slotsPerCPU = 1024

// wakeupShare is the part of the ring that must be unread before the kernel
// wakes the reader; otherwise the reader looks by itself.
const wakeupShare = 4

// crowdedShare is the part of the ring that, once unread, keeps journeys from
// beginning; the rest is for the journeys that are under way.
const crowdedShare = 2

// Kind selects one of the two objects.
type Kind int

const (
	// Session is the object for BPF_TRACE_KPROBE_SESSION, Linux 6.10+.
	Session Kind = iota
	// Classic is the object with entry and return programs of their own.
	Classic
)

// Options say what to load.
type Options struct {
	Kind     Kind
	Programs []string // names of the programs to load; the others never reach the kernel
	// AttachType of the probe programs: AttachTraceKprobeSession,
	// AttachTraceKprobeMulti, or AttachNone for single kprobes. With Session,
	// the programs that end tracking, tell rules, or note the users of sockets get
	// AttachTraceKprobeMulti.
	AttachType ebpf.AttachType
	RingBytes  int // a power of two and a multiple of the page size
	CPUs       int // possible CPUs
	NetNS      uint32
	Mark       uint32
	MarkMask   uint32
	Interface  string // at most 15 bytes
	EntryOnly  bool
	Extras     Extras
	Callees    bool // frames are noted for ProgramCallee; not with EntryOnly
	HasFuncIP  bool // bpf_get_func_ip works in this program type
	HasReason  bool // tracepoint kfree_skb has the argument reason
	Owner      OwnerFilter
	// HasRules says that programs that tell rules are among Programs.
	HasRules bool
	// XTPrivFirst is kernel.PacketFilters.PrivFirst.
	XTPrivFirst bool
	// Sheds says that Shed will be called.
	Sheds bool
	// KfuncIDs maps the kfuncs that the session object calls to their BTF ids
	// in vmlinux. They are bound by name alone, because the session kfuncs
	// changed their prototype: https://git.kernel.org/torvalds/c/8fe4dc4f6456
	KfuncIDs map[string]uint32
	// KernelTypes is the running kernel's vmlinux BTF, or as much of it as the
	// structs in kernel_types.h and, with Session, struct ip_options under
	// their ids. Nil: Load reads all of it, which takes long.
	KernelTypes *btf.Spec
	Tunnel      bool // follow only packets of whose tunnel's content Filter knows more
	TraceTC     bool // NewRunTracer will be asked for tc programs
	TraceXDP    bool // … for XDP programs; follows packets from before they have an skb
	// ModuleTypes are those of kernel modules that are read too: nf_tables.
	ModuleTypes []*btf.Spec
	// Contexts is the map with the spans that threads are in (OpenContexts); nil: none
	// is known. Load does not close it; its shape is asked for later, too.
	Contexts *ebpf.Map
	// Correlate asks for spans of applications, Payload also for those that the data
	// of packets name.
	Correlate, Payload bool
	// Bases let Payload read what lies in pages.
	Bases MemoryBases
	// SampleThreshold leaves out packets whose flow has less randomness; 0: none.
	SampleThreshold uint64
	// Filter replaces the bodies of filter_l2 and filter_l3, and with Tunnel those of
	// tunnel_l2 and tunnel_l3.
	Filter func(*ebpf.CollectionSpec) error
}

// Objects are the loaded programs and maps. Close releases them; what was
// attached must be detached first.
type Objects struct {
	Programs map[string]*ebpf.Program
	maps     map[string]*ebpf.Map
	vars     map[string]*ebpf.Variable
}

// Load creates the maps and loads the programs. A program that the verifier
// refuses is an *ebpf.VerifierError.
func Load(o Options) (*Objects, error) {
	if o.KernelTypes == nil {
		types, err := btf.LoadKernelSpec()
		if err != nil {
			return nil, fmt.Errorf("read the kernel's BTF: %w", err)
		}
		o.KernelTypes = types
	}
	spec, err := loadSpec(o)
	if err != nil {
		return nil, err
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: o.KernelTypes, ExtraRelocationTargets: o.ModuleTypes},
		MapReplacements: replaceContexts(o.Contexts),
	})
	if err != nil {
		return nil, fmt.Errorf("load BPF programs: %w", err)
	}
	return &Objects{
		Programs: collection.Programs,
		maps:     collection.Maps,
		vars:     collection.Variables,
	}, nil
}

// loadSpec is the object file, adapted to the options.
func loadSpec(o Options) (*ebpf.CollectionSpec, error) {
	load := loadSession
	if o.Kind == Classic {
		load = loadClassic
	}
	spec, err := load()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	if err := keepPrograms(spec, o); err != nil {
		return nil, err
	}
	if o.Filter != nil {
		if err := o.Filter(spec); err != nil {
			return nil, err
		}
	}
	for _, program := range spec.Programs {
		if err := bindKfuncs(program.Instructions, o.KfuncIDs); err != nil {
			return nil, err
		}
	}
	if err := applySettings(spec, o); err != nil {
		return nil, err
	}
	if err := applyExtras(spec, o.Extras); err != nil {
		return nil, err
	}
	if err := o.Owner.apply(spec); err != nil {
		return nil, err
	}
	spec.Maps["ring"].MaxEntries = uint32(o.RingBytes)
	if err := applyApplications(spec, o.Correlate, o.Contexts, o.KernelTypes); err != nil {
		return nil, err
	}
	if !o.HasRules {
		spec.Maps["rule_walks"].MaxEntries = 1 // named by code that never runs
	}
	spec.Maps["slots"].MaxEntries = uint32(slotsPerCPU * o.CPUs)
	if err := applyShedding(spec, o.Sheds); err != nil {
		return nil, err
	}
	if o.SampleThreshold == 0 {
		spec.Maps["unsampled_skbs"].MaxEntries = 1 // never used
	}
	if !o.Callees {
		spec.Maps["notes"].MaxEntries = 1 // never used
	}
	return spec, applyTrace(spec, o)
}

// keepPrograms drops the programs that are not asked for and sets the attach
// types of the others.
func keepPrograms(spec *ebpf.CollectionSpec, o Options) error {
	for _, name := range o.Programs {
		if spec.Programs[name] == nil {
			return fmt.Errorf("find BPF program %q: have %s", name,
				strings.Join(slices.Sorted(maps.Keys(spec.Programs)), ", "))
		}
	}
	for name, program := range spec.Programs {
		if !slices.Contains(o.Programs, name) {
			delete(spec.Programs, name)
			continue
		}
		if program.Type != ebpf.Kprobe {
			continue
		}
		if name == ProgramApplicationStatement {
			continue // see applyApplications: no backend's
		}
		program.AttachType = o.AttachType
		alone := strings.HasPrefix(name, "end_") || strings.HasPrefix(name, "socket_") || strings.HasPrefix(name, "nf_")
		if alone && o.AttachType == ebpf.AttachTraceKprobeSession {
			program.AttachType = ebpf.AttachTraceKprobeMulti
		}
	}
	return nil
}

// bindKfuncs writes the ids of the named kfuncs into their calls, and takes
// from the calls what would make the library compare prototypes.
func bindKfuncs(insns asm.Instructions, ids map[string]uint32) error {
	for i := range insns {
		ins := &insns[i]
		if !ins.IsKfuncCall() || ins.Reference() == "" {
			continue
		}
		id, ok := ids[ins.Reference()]
		if !ok {
			return fmt.Errorf("bind kfunc %s: the running kernel does not have it", ins.Reference())
		}
		*ins = asm.Instruction{
			OpCode:   ins.OpCode,
			Src:      asm.PseudoKfuncCall,
			Constant: int64(id),
			Metadata: asm.Metadata{},
		}.WithSource(ins.Source())
	}
	return nil
}

// applySettings writes the constants that the programs are verified with.
func applySettings(spec *ebpf.CollectionSpec, o Options) error {
	settings := classicProbeSettings{
		Netns:        o.NetNS,
		Mark:         o.Mark & o.MarkMask,
		MarkMask:     o.MarkMask,
		CrowdedBytes: uint32(o.RingBytes / crowdedShare),
		WakeupBytes:  uint32(o.RingBytes / wakeupShare),
		HasInterface: flag(o.Interface != ""),
		HasFuncIp:    flag(o.HasFuncIP),
		HasReason:    flag(o.HasReason),
		EntryOnly:    flag(o.EntryOnly),
		Callees:      flag(o.Callees),
		HasTunnel:    flag(o.Tunnel),
		HasRules:     flag(o.HasRules),
		XtPrivFirst:  flag(o.XTPrivFirst),
		Correlate:    flag(o.Correlate),
		Payload:      flag(o.Correlate && o.Payload),

		PageOffsetBaseAt: o.Bases.PageOffset,
		VmemmapBaseAt:    o.Bases.Vmemmap,
		SampleThreshold:  o.SampleThreshold,
	}
	if o.Kind == Session {
		var err error
		if settings.SkBuffId, err = structID(o.KernelTypes, "sk_buff"); err != nil {
			return err
		}
		if settings.RawBytesId, err = structID(o.KernelTypes, "ip_options"); err != nil {
			return err
		}
	}
	if copy(settings.Interface[:15], o.Interface) < len(o.Interface) {
		return fmt.Errorf("filter by interface %q: a name has at most 15 bytes", o.Interface)
	}
	if err := spec.Variables["settings"].Set(settings); err != nil {
		return fmt.Errorf("write BPF settings: %w", err)
	}
	return nil
}

// structID is the BTF id of a struct of the kernel.
func structID(types *btf.Spec, name string) (uint32, error) {
	var t *btf.Struct
	if err := types.TypeByName(name, &t); err != nil {
		return 0, fmt.Errorf("find struct %s in the kernel's BTF: %w", name, err)
	}
	id, err := types.TypeID(t)
	if err != nil {
		return 0, fmt.Errorf("find the id of struct %s in the kernel's BTF: %w", name, err)
	}
	return uint32(id), nil
}

func flag(set bool) uint8 {
	if set {
		return 1
	}
	return 0
}

// Ring is the ring buffer that the records come through.
func (o *Objects) Ring() *ebpf.Map { return o.maps["ring"] }

// Close releases programs and maps.
func (o *Objects) Close() error {
	var errs []error
	for _, program := range o.Programs {
		errs = append(errs, program.Close())
	}
	for _, m := range o.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
