package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// checker looks at a kernel; tests give it another one.
type checker struct {
	root     string // what stands before /proc and /sys
	arch     string
	release  string
	machine  string
	haveRing func() error // nil, an error that is ebpf.ErrNotSupported, or another
	memlock  func() (unlimited bool, err error)

	btfFile string // see CheckWith

	caps  capabilities
	types *RawBTF // nil when vmlinux has none
}

// Check looks at the running kernel and at what this process may do with it.
// It attaches nothing. It does not fail: what cannot be told is StatusUnknown.
func Check() []Finding { return CheckWith("") }

// CheckWith is Check where a file holds the types of the kernel (ReadVmlinuxBTF);
// empty: the kernel has them itself.
func CheckWith(btfFile string) []Finding {
	c := checker{
		btfFile:  btfFile,
		arch:     runtime.GOARCH,
		haveRing: func() error { return features.HaveMapType(ebpf.RingBuf) },
		memlock:  memlockUnlimited,
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		c.release = unix.ByteSliceToString(uts.Release[:])
		c.machine = unix.ByteSliceToString(uts.Machine[:])
	}
	return c.check()
}

// HasFuncIP says whether a kprobe program can ask which function it is at
// (helper bpf_get_func_ip, Linux 5.15).
func HasFuncIP() bool {
	return features.HaveProgramHelper(ebpf.Kprobe, asm.FnGetFuncIp) == nil
}

func memlockUnlimited() (bool, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return false, err
	}
	return limit.Cur == unix.RLIM_INFINITY, nil
}

func (c *checker) check() []Finding {
	c.caps = readCapabilities(c.path("/proc/self/status"))
	btf := c.btf()
	return []Finding{
		c.kernel(),
		c.kprobes(),
		btf,
		c.moduleBTF(),
		c.lockdown(),
		c.privileges(),
		c.tracefs(),
		c.multi(),
		c.session(),
		c.block(),
		c.ring(),
		c.locked(),
		c.jit(),
		c.symbols(),
		c.timeNS(),
	}
}

func (c *checker) path(p string) string { return filepath.Join(c.root, p) }

// text returns a small file's content without surrounding space.
func (c *checker) text(p string) (string, error) {
	data, err := os.ReadFile(c.path(p))
	return strings.TrimSpace(string(data)), err
}

func (c *checker) exists(p string) bool {
	_, err := os.Stat(c.path(p))
	return err == nil
}

// version is the kernel's major and minor version as one comparable number.
func (c *checker) version() int {
	var major, minor int
	if _, err := fmt.Sscanf(c.release, "%d.%d", &major, &minor); err != nil {
		return 0
	}
	return major<<8 | minor
}

func (c *checker) kernel() Finding {
	f := Finding{Name: FindingKernel, Status: StatusOK, Detail: c.release + " " + c.machine}
	switch {
	case c.arch != "amd64":
		f.Status, f.Fix = StatusMissing, "run it on amd64"
		f.Detail = fmt.Sprintf("the architecture %s is not supported", c.arch)
	case c.version() < 5<<8|10:
		f.Status, f.Fix = StatusMissing, "boot Linux 5.10 or later"
		f.Detail = fmt.Sprintf("kernel %s is too old", c.release)
	}
	return f
}

func (c *checker) kprobes() Finding {
	f := Finding{Name: FindingKprobes, Status: StatusOK, Detail: "kprobe events can be opened"}
	enabled, err := c.text("/sys/kernel/debug/kprobes/enabled")
	switch {
	case !c.exists("/sys/bus/event_source/devices"):
		f.Status, f.Detail = StatusMissing, "/sys is not mounted or shows no perf events, so kprobes cannot be used"
		f.Fix = "mount sysfs on /sys, and use a kernel with CONFIG_PERF_EVENTS=y"
	case !c.exists("/sys/bus/event_source/devices/kprobe"):
		f.Status, f.Detail = StatusMissing, "this kernel was built without kprobes"
		f.Fix = "use a kernel with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y, as those of all large distributions"
	case err == nil && enabled == "0":
		f.Status, f.Detail = StatusMissing, "kprobes are switched off"
		f.Fix = "write 1 to /sys/kernel/debug/kprobes/enabled"
	case c.paranoid() && !c.caps.has(capSysAdmin) && len(c.caps.lacking()) == 0:
		f.Status, f.Detail = StatusMissing, "single kprobes need CAP_SYS_ADMIN while kernel.perf_event_paranoid is 3 or more"
		f.Fix = "run it as root, or set 'sysctl kernel.perf_event_paranoid=2'"
	}
	return f
}

// paranoid is true when only CAP_SYS_ADMIN may open perf events: Debian and
// Ubuntu know a level 3 that takes CAP_PERFMON's right away.
func (c *checker) paranoid() bool {
	text, err := c.text("/proc/sys/kernel/perf_event_paranoid")
	level, convErr := strconv.Atoi(text)
	return err == nil && convErr == nil && level >= 3
}

func (c *checker) btf() Finding {
	f := Finding{Name: FindingBTF, Status: StatusOK}
	types, err := ReadVmlinuxBTF(c.btfFile, c.path("/sys/kernel/btf"))
	switch {
	case err == nil && c.btfFile != "":
		c.types = types
		f.Detail = fmt.Sprintf("%d types in %s", types.NextID()-1, c.btfFile)
	case err == nil:
		c.types = types
		f.Detail = fmt.Sprintf("%d types in /sys/kernel/btf/vmlinux", types.NextID()-1)
	case c.btfFile != "":
		f.Status, f.Detail, f.Fix = StatusMissing, err.Error(), "name the file with the types of the kernel that runs"
	case errors.Is(err, os.ErrNotExist):
		f.Status, f.Detail = StatusMissing, "this kernel describes no types (no /sys/kernel/btf/vmlinux)"
		f.Fix = "use a kernel with CONFIG_DEBUG_INFO_BTF=y; packets takes a file with its types, too (--kernel-btf)"
	default:
		f.Status, f.Detail = StatusMissing, err.Error()
		f.Fix = "make /sys/kernel/btf/vmlinux readable, or report this with the kernel's release"
	}
	return f
}

func (c *checker) moduleBTF() Finding {
	f := Finding{Name: FindingModuleBTF, Status: StatusOK}
	entries, err := os.ReadDir(c.path("/sys/kernel/btf"))
	loaded, modErr := c.text("/proc/modules")
	switch {
	case err != nil && c.btfFile == "":
		f.Status, f.Detail = StatusMissing, "no /sys/kernel/btf"
	case len(entries) > 1:
		f.Detail = fmt.Sprintf("of %d modules", len(entries)-1)
	case modErr != nil || loaded == "":
		f.Detail = "no module is loaded"
	default:
		f.Status, f.Detail = StatusLimited, "modules describe no types"
		f.Cost = "of modules, only a built-in list of functions is probed (veth, virtio_net, bridge, vxlan …)"
		f.Fix = "boot Linux 5.11 or later with CONFIG_DEBUG_INFO_BTF_MODULES=y"
	}
	return f
}

func (c *checker) lockdown() Finding {
	f := Finding{Name: FindingLockdown, Status: StatusOK}
	text, err := c.text("/sys/kernel/security/lockdown")
	switch {
	case err != nil:
		f.Detail = "not in force, as far as can be seen"
	case strings.Contains(text, "[confidentiality]"):
		f.Status, f.Detail = StatusMissing, "kernel lockdown is in mode confidentiality, which forbids BPF to read kernel memory"
		f.Fix = "boot with lockdown=integrity or without lockdown"
	case strings.Contains(text, "[integrity]"):
		f.Detail = "integrity, which allows tracing"
	default:
		f.Detail = "none"
	}
	return f
}

func (c *checker) privileges() Finding {
	f := Finding{Name: FindingPrivileges, Status: StatusOK, Detail: "may load and attach BPF programs"}
	if lacking := c.caps.lacking(); len(lacking) > 0 {
		f.Status = StatusMissing
		f.Detail = "this process may not trace the kernel: it lacks " + strings.Join(lacking, " and ")
		f.Fix = "run it as root, for example with sudo, or with CAP_BPF, CAP_PERFMON, CAP_SYSLOG and CAP_DAC_READ_SEARCH"
	}
	return f
}
