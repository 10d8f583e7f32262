package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// OwnerFilter says whose packets are followed: those of sockets to which all of
// its members apply. The zero value means everybody's.
type OwnerFilter struct {
	// Cgroup is the id of a cgroup of version 2: sockets that were made in it, or
	// below it.
	Cgroup uint64
	// TGID is the process that used the socket last.
	TGID uint32
	// Comm is the name of the thread that used the socket last, at most 15 bytes.
	Comm string
}

// apply writes the constants that the programs are verified with.
func (f OwnerFilter) apply(spec *ebpf.CollectionSpec) error {
	settings := classicOwnerSettings{
		Cgroup:  f.Cgroup,
		Tgid:    f.TGID,
		HasComm: flag(f.Comm != ""),
		Wanted:  flag(f != OwnerFilter{}),
	}
	if copy(settings.Comm[:15], f.Comm) < len(f.Comm) {
		return fmt.Errorf("filter by process %q: a name has at most 15 bytes", f.Comm)
	}
	if err := spec.Variables["owner_settings"].Set(settings); err != nil {
		return fmt.Errorf("write BPF settings of owners: %w", err)
	}
	return nil
}
