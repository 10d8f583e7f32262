package recording

import (
	"slices"
	"sort"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Names are the names and clock offsets of a recording. They implement
// spans.Names, spans.BlockNames and spans.Clock.
type Names struct {
	functions map[uint64]spans.Function
	locations map[uint64]string
	reasons   map[uint32]string
	netns     map[uint32]string
	offsets   []offset // by validFromMonoNs

	devices      map[uint32]string
	cgroups      map[uint64]string
	operations   map[uint32]string
	requestFlags map[uint32]string

	executables map[spans.Thread]string
}

var (
	_ spans.Names      = (*Names)(nil)
	_ spans.BlockNames = (*Names)(nil)
	_ spans.OwnerNames = (*Names)(nil)
	_ spans.Clock      = (*Names)(nil)
)

type offset struct {
	validFromMonoNs uint64
	ns              int64
}

func newNames() *Names {
	return &Names{
		functions: make(map[uint64]spans.Function),
		locations: make(map[uint64]string),
		reasons:   make(map[uint32]string),
		netns:     make(map[uint32]string),

		devices:      make(map[uint32]string),
		cgroups:      make(map[uint64]string),
		operations:   make(map[uint32]string),
		requestFlags: make(map[uint32]string),

		executables: make(map[spans.Thread]string),
	}
}

// Function implements spans.Names.
func (n *Names) Function(addr uint64) spans.Function { return n.functions[addr] }

// Location implements spans.Names.
func (n *Names) Location(addr uint64) string { return n.locations[addr] }

// DropReason implements spans.Names.
func (n *Names) DropReason(value uint32) string { return n.reasons[value] }

// NetNS implements spans.Names.
func (n *Names) NetNS(inum uint32, _ uint64) string { return n.netns[inum] }

// Device implements spans.BlockNames.
func (n *Names) Device(dev uint32) string { return n.devices[dev] }

// Cgroup implements spans.BlockNames and spans.OwnerNames.
func (n *Names) Cgroup(id uint64) string { return n.cgroups[id] }

// Operation implements spans.BlockNames.
func (n *Names) Operation(op uint8) string { return n.operations[uint32(op)] }

// RequestFlag implements spans.BlockNames.
func (n *Names) RequestFlag(bit uint8) string { return n.requestFlags[uint32(bit)] }

// Executable implements spans.OwnerNames.
func (n *Names) Executable(t spans.Thread) string { return n.executables[t] }

// OffsetNs implements spans.Clock: the offset that is valid from the latest
// time that is not after monoNs; before the first, the first.
func (n *Names) OffsetNs(monoNs uint64) int64 {
	if len(n.offsets) == 0 {
		return 0
	}
	i := sort.Search(len(n.offsets), func(i int) bool { return n.offsets[i].validFromMonoNs > monoNs })
	return n.offsets[max(i-1, 0)].ns
}

// add takes the name or offset of an entry; of two for one number the later
// one holds.
func (n *Names) add(e *Entry) {
	switch e.Kind {
	case KindFunction:
		n.functions[e.Addr] = spans.Function{Name: e.Name, Module: e.Module}
	case KindLocation:
		n.locations[e.Addr] = e.Name
	case KindDropReason:
		n.reasons[e.Value] = e.Name
	case KindNetNS:
		n.netns[e.Value] = e.Name
	case KindDevice:
		n.devices[e.Value] = e.Name
	case KindCgroup:
		n.cgroups[e.Cgroup] = e.Name
	case KindOperation:
		n.operations[e.Value] = e.Name
	case KindRequestFlag:
		n.requestFlags[e.Value] = e.Name
	case KindExecutable:
		n.executables[e.Thread] = e.Name
	case KindClock:
		n.addOffset(e.MonoNs, e.OffsetNs)
	}
}

func (n *Names) addOffset(validFromMonoNs uint64, ns int64) {
	i := sort.Search(len(n.offsets), func(i int) bool { return n.offsets[i].validFromMonoNs >= validFromMonoNs })
	if i < len(n.offsets) && n.offsets[i].validFromMonoNs == validFromMonoNs {
		n.offsets[i].ns = ns
		return
	}
	n.offsets = slices.Insert(n.offsets, i, offset{validFromMonoNs, ns})
}
