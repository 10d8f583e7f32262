package probe

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// Backend is a way of attaching to many functions. All of them report entry
// and return; they differ in what they need and cost (docs/kernels.md).
type Backend string

// ParseBackend accepts the names of the backends.
func ParseBackend(name string) (Backend, error) {
	switch b := Backend(name); b {
	case BackendSession, BackendMulti, BackendKprobe:
		return b, nil
	}
	return "", fmt.Errorf("choose backend %q: use auto, session, multi or kprobe", name)
}

// Kind is the BPF object that serves the backend.
func (b Backend) Kind() bpf.Kind {
	if b == BackendSession {
		return bpf.Session
	}
	return bpf.Classic
}

// AttachType is what the probe programs are loaded for.
func (b Backend) AttachType() ebpf.AttachType {
	switch b {
	case BackendSession:
		return ebpf.AttachTraceKprobeSession
	case BackendMulti:
		return ebpf.AttachTraceKprobeMulti
	default:
		return ebpf.AttachNone
	}
}

// Programs names the BPF programs that following these functions takes.
func (b Backend) Programs(functions []Function, entryOnly bool) []string {
	names := []string{
		bpf.ProgramKfreeSkb, bpf.ProgramConsumeSkb, bpf.ProgramEvict,
		bpf.ProgramEndFreed, bpf.ProgramEndMerged, bpf.ProgramEndDeferred,
		bpf.ProgramSocketUsed, bpf.ProgramSocketChild, bpf.ProgramSocketGone, bpf.ProgramSocketWritten,
	}
	if b == BackendSession {
		names = append(names, bpf.ProgramProbe)
		if slices.ContainsFunc(functions, func(f Function) bool { return f.NoSkb }) {
			names = append(names, bpf.ProgramCallee)
		}
		return names
	}
	seen := make(map[string]bool)
	for _, f := range functions {
		if name := f.program(); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if !entryOnly {
		names = append(names, bpf.ProgramLeave)
	}
	return names
}

// program names the BPF program for the function's entry.
func (f Function) program() string {
	switch {
	case f.NoSkb:
		return bpf.ProgramCallee
	case f.Sock:
		return bpf.ProgramSock
	case f.Reads && f.Arg == 0:
		return bpf.ProgramReads
	case f.Reads:
		return bpf.ProgramReadsFreed
	}
	return bpf.ProbeProgram(f.Arg, f.Indirect, f.NoStart, f.Kin)
}

// symbol is the function's name in the kernel's symbol table.
func (f Function) symbol() string { return cmp.Or(f.Symbol, f.Name) }
