package probe

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/internal/applications"
)

// AttachApplication lets a program run whenever any process comes to the function of
// an application. The kernel keeps the file that it was given, not its path, so the
// caller may close p.File afterwards. Where two file systems share the file (overlay
// layers), it sees the calls of both.
func AttachApplication(program *ebpf.Program, p applications.Program) (link.Link, error) {
	// Through our own descriptor it is the file that was examined, and no other one, in
	// whatever namespace of mounts it has its name, if it has one still.
	executable, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", p.File.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open %s of process %d: %w", p.Name, p.PID, err)
	}
	l, err := attachUprobe(executable, program, p.Offset)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("attach to %s of process %d: %w (a container's seccomp profile or a security module forbids perf_event_open)", p.Name, p.PID, err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, ebpf.ErrNotSupported):
		return nil, fmt.Errorf("attach to %s of process %d: %w (uprobes need a kernel with CONFIG_UPROBE_EVENTS)", p.Name, p.PID, err)
	case err != nil:
		return nil, fmt.Errorf("attach to %s of process %d: %w", p.Name, p.PID, err)
	}
	return l, nil
}

// attachUprobe makes a link of its own where the kernel has those for uprobes, else a
// perf event: bpf.Load has loaded the program for the same one.
func attachUprobe(executable *link.Executable, program *ebpf.Program, offset uint64) (link.Link, error) {
	l, err := executable.UprobeMulti(nil, program, &link.UprobeMultiOptions{Addresses: []uint64{offset}})
	// A kernel that does not know such links calls their kind an invalid argument.
	if !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) {
		return l, err
	}
	// Address is an offset in the file, and Offset would be one from there.
	return executable.Uprobe("", program, &link.UprobeOptions{Address: offset})
}
