package main

import (
	"fmt"
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// maxComm is the most bytes that a thread's name can have.
const maxComm = 15

// checkOwner reads --filter-process and --filter-cgroup.
func (f *packetsFlags) checkOwner(s *packetsSettings) error {
	if f.process != "" {
		if err := wantProcess(&s.owner, f.process); err != nil {
			return fmt.Errorf("read --filter-process: %w", err)
		}
	}
	if f.cgroup != "" {
		id, err := findCgroup(f.cgroup)
		if err != nil {
			return fmt.Errorf("read --filter-cgroup: %w", err)
		}
		s.owner.Cgroup = id
	}
	return nil
}

// wantProcess takes a process that runs, by its number, or a name, which may be
// that of a process to come.
func wantProcess(o *bpf.OwnerFilter, text string) error {
	pid, err := strconv.ParseUint(text, 10, 31)
	switch {
	case err != nil && isNumber(text), err == nil && !kernel.ProcessExists(int(pid)):
		return fmt.Errorf("there is no process %s; for the packets of a process that is yet to start, give its name", text)
	case err == nil:
		o.TGID = uint32(pid)
	case len(text) > maxComm:
		return fmt.Errorf("%q is longer than the %d bytes that the name of a process can have; /proc/PID/comm has it", text, maxComm)
	default:
		o.Comm = text
	}
	return nil
}

// findCgroup finds the id of a cgroup of version 2 by a path, or checks an id.
func findCgroup(text string) (uint64, error) {
	if !isNumber(text) {
		id, _, err := kernel.ResolveCgroup(text)
		return id, err
	}
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || kernel.NewCgroups().Path(id) == "" {
		return 0, fmt.Errorf("there is no cgroup of version 2 with the id %s; 'ls -di' of its directory shows it", text)
	}
	return id, nil
}

func isNumber(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}
