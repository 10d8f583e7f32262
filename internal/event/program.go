package event

// Hook is where a traced BPF program of others is attached.
type Hook uint8

// The hooks whose programs can be traced.
const (
	HookNone Hook = iota // no BPF program, but a function of the kernel
	HookTC               // tc: classifiers and actions, tcx too
	HookXDP              // XDP
)

// hookShift puts the hook above a program's id; no function of a kernel has an
// address that low.
const hookShift = 32

// ProgramFunc is what the frames of a BPF program's runs have as Func; id is the
// kernel's for the program.
func ProgramFunc(hook Hook, id uint32) uint64 { return uint64(hook)<<hookShift | uint64(id) }

// Program tells a BPF program from a kernel function by a frame's Func. HookNone:
// it is a function's address.
func Program(fn uint64) (hook Hook, id uint32) {
	switch hook := Hook(fn >> hookShift); {
	case fn == ProgramFunc(HookTC, uint32(fn)), fn == ProgramFunc(HookXDP, uint32(fn)):
		return hook, uint32(fn)
	}
	return HookNone, 0
}

// xdpReason stands above the XDP action in the Reason of an End by an XDP program.
const xdpReason = 0xffff

// XDPReason gives the value that an XDP program dropped a packet with. ok is false
// for the kernel's own reasons.
func XDPReason(reason uint32) (action uint32, ok bool) {
	return reason & 0xffff, reason>>16 == xdpReason
}
