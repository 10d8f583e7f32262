package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// kprobePMU is where the kernel tells how to ask for perf events that are kprobes (Linux
// 4.17, https://git.kernel.org/torvalds/c/e12f03d7031a).
const kprobePMU = "/sys/bus/event_source/devices/kprobe"

// place is where in a function a kprobe is.
type place bool

const (
	atEntry  place = false
	atReturn place = true
)

// singles attaches kprobes one by one: by address where that is known. To find a name
// the kernel unpacks all of its symbols until Linux 6.2
// (https://git.kernel.org/torvalds/c/60443c88f3a8), several times for each kprobe, which
// takes longer than all the rest.
type singles struct {
	address  func(symbol string) (uint64, error) // nil: nothing is known
	pmu      uint32                              // type of perf events that are kprobes, 0: not known
	retprobe uint64                              // config of one at a return
}

func newSingles(address func(string) (uint64, error)) singles {
	s := singles{address: address}
	pmu, bit, err := readKprobePMU(kprobePMU)
	if err == nil {
		s.pmu, s.retprobe = pmu, 1<<bit
	}
	return s // without it by name, which the library knows other ways for
}

func readKprobePMU(dir string) (pmu uint32, retprobeBit uint, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "type"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the type of kprobe events: %w", err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("read the type of kprobe events: %w", err)
	}
	text, err = os.ReadFile(filepath.Join(dir, "format", "retprobe"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the format of kprobe events: %w", err)
	}
	if _, err := fmt.Sscanf(string(text), "config:%d", &retprobeBit); err != nil {
		return 0, 0, fmt.Errorf("read the format of kprobe events from %q: %w", text, err)
	}
	return uint32(number), retprobeBit, nil
}

// attach attaches a program to a function of that name. The error is an os.ErrNotExist
// when there is none.
func (s singles) attach(program *ebpf.Program, symbol string, at place) (io.Closer, error) {
	var addr uint64
	if s.address != nil {
		var err error
		if addr, err = s.address(symbol); err != nil {
			return nil, err
		}
	}
	return s.attachAt(program, symbol, addr, at)
}

// attachAt is attach for a function whose address is known; 0 means that it is not.
func (s singles) attachAt(program *ebpf.Program, symbol string, addr uint64, at place) (io.Closer, error) {
	if s.pmu == 0 || addr == 0 {
		if at == atReturn {
			return link.Kretprobe(symbol, program, nil)
		}
		return link.Kprobe(symbol, program, nil)
	}
	probe, err := s.open(addr, at)
	if err != nil {
		return nil, fmt.Errorf("open a perf event for %s: %w", symbol, err)
	}
	if err := probe.run(program); err != nil {
		return nil, errors.Join(fmt.Errorf("attach a program to %s: %w", symbol, err), probe.Close())
	}
	return probe, nil
}

// open makes a kprobe at an address, which runs nothing yet.
func (s singles) open(addr uint64, at place) (kprobeEvent, error) {
	attr := unix.PerfEventAttr{
		Type: s.pmu,
		Size: unix.PERF_ATTR_SIZE_VER1, // as far as Ext2
		Ext2: addr,                     // kprobe_addr, which counts without kprobe_func (Ext1)
	}
	if at == atReturn {
		attr.Config = s.retprobe
	}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	return kprobeEvent(fd), err
}

// kprobeEvent is the descriptor of a perf event that is a kprobe. The program runs on
// all CPUs, wherever the event itself is.
type kprobeEvent int

func (e kprobeEvent) run(program *ebpf.Program) error {
	if err := unix.IoctlSetInt(int(e), unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(e), unix.PERF_EVENT_IOC_ENABLE, 0)
}

// Close detaches.
func (e kprobeEvent) Close() error { return unix.Close(int(e)) }
