package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// Capability numbers (include/uapi/linux/capability.h).
const (
	capSysAdmin    = 21
	capSysResource = 24
	capPerfmon     = 38
	capBPF         = 39
)

// capabilities is the effective set of this process.
type capabilities uint64

func readCapabilities(status string) capabilities {
	data, err := os.ReadFile(status)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			v, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0
			}
			return capabilities(v)
		}
	}
	return 0
}

func (c capabilities) has(n int) bool { return c>>n&1 != 0 }

// lacking names what tracing needs and is not there; CAP_SYS_ADMIN includes
// the other two (capabilities(7)).
func (c capabilities) lacking() []string {
	var names []string
	if !c.has(capSysAdmin) && !c.has(capBPF) {
		names = append(names, "CAP_BPF")
	}
	if !c.has(capSysAdmin) && !c.has(capPerfmon) {
		names = append(names, "CAP_PERFMON")
	}
	return names
}

// TracefsDir returns where tracefs is mounted with the list of functions that
// can be traced in it. The error is a *CannotTraceError.
func TracefsDir() (string, error) { return tracefsDir("") }

func tracefsDir(root string) (string, error) {
	var denied bool
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		dir = filepath.Join(root, dir)
		f, err := os.Open(filepath.Join(dir, "available_filter_functions"))
		if err == nil {
			return dir, f.Close()
		}
		denied = denied || errors.Is(err, fs.ErrPermission)
	}
	if denied {
		return "", &CannotTraceError{
			Missing: "tracefs may not be read",
			Fix:     "run it as root or with CAP_DAC_READ_SEARCH",
		}
	}
	filesystems, err := os.ReadFile(root + "/proc/filesystems")
	if err == nil && !strings.Contains(string(filesystems), "\ttracefs\n") {
		return "", &CannotTraceError{
			Missing: "this kernel was built without tracefs",
			Fix:     "use a kernel with CONFIG_FTRACE=y and CONFIG_FUNCTION_TRACER=y",
		}
	}
	if _, err := os.Stat(root + "/sys/kernel/tracing/events"); err == nil {
		return "", &CannotTraceError{
			Missing: "this kernel was built without the function tracer",
			Fix:     "use a kernel with CONFIG_FUNCTION_TRACER=y and CONFIG_DYNAMIC_FTRACE=y",
		}
	}
	return "", &CannotTraceError{
		Missing: "tracefs is not mounted",
		Fix:     "run mount -t tracefs tracefs /sys/kernel/tracing",
	}
}

func (c *checker) tracefs() Finding {
	dir, err := tracefsDir(c.root)
	var cannot *CannotTraceError
	if errors.As(err, &cannot) {
		return Finding{Name: FindingTracefs, Status: StatusMissing, Detail: cannot.Missing, Fix: cannot.Fix}
	}
	return Finding{Name: FindingTracefs, Status: StatusOK, Detail: strings.TrimPrefix(dir, c.root)}
}

// multi reads from BTF what was compiled in: the functions exist only with
// CONFIG_FPROBE. Trying it out would attach and detach, which costs 0.2 s.
func (c *checker) multi() Finding {
	f := Finding{Name: FindingMulti, Status: StatusOK, Detail: "all functions are attached at once"}
	switch {
	case c.types == nil:
		f.Status, f.Detail = StatusUnknown, "cannot be told without BTF"
	case c.types.HasFunc("bpf_kprobe_multi_link_attach") && c.types.HasFunc("register_fprobe_ips"):
	case c.version() >= 5<<8|18:
		f.Status, f.Detail = StatusMissing, "this kernel was built without FPROBE"
		f.Cost, f.Fix = costOfSingles, "use a kernel with CONFIG_FPROBE=y (Debian: 6.12 or later)"
	default:
		f.Status, f.Detail = StatusMissing, "this kernel is older than kprobe.multi"
		f.Cost, f.Fix = costOfSingles, "boot Linux 5.18 or later with CONFIG_FPROBE=y"
	}
	return f
}

const costOfSingles = "functions are attached one by one, slowly: a curated list of some 130 by default"

func (c *checker) session() Finding {
	f := Finding{Name: FindingSession, Status: StatusOK, Detail: "one probe sees entry and return"}
	multi := c.multi()
	switch {
	case multi.Status != StatusOK:
		f.Status, f.Detail, f.Fix = multi.Status, multi.Detail, multi.Fix
	case !c.exists("/sys/kernel/btf/vmlinux"):
		f.Status, f.Detail = StatusMissing, "this kernel describes no types, which its functions for programs need"
		f.Cost = "a second probe for the return of each function"
		f.Fix = "use a kernel with CONFIG_DEBUG_INFO_BTF=y"
	case !c.types.HasFunc("bpf_session_cookie") || !c.types.HasFunc("bpf_session_is_return"):
		f.Status, f.Detail = StatusMissing, "this kernel is older than kprobe.session"
		f.Cost = "a second probe for the return of each function"
		f.Fix = "boot Linux 6.10 or later"
	}
	return f
}

// block looks for what no request can be traced without; the other tracepoints
// of the block layer only add to it.
func (c *checker) block() Finding {
	f := Finding{Name: FindingBlock, Status: StatusOK, Detail: "issue and completion of requests can be seen"}
	if c.types == nil {
		f.Status, f.Detail = StatusUnknown, "cannot be told without BTF"
		return f
	}
	if !c.exists("/sys/kernel/btf/vmlinux") {
		f.Status, f.Detail = StatusMissing, "this kernel describes no types, which programs at its tracepoints need"
		f.Cost, f.Fix = costOfNoBlock, "use a kernel with CONFIG_DEBUG_INFO_BTF=y: block takes no file with types"
		return f
	}
	tracepoints := ReadBlockSignatures(c.types).Tracepoints
	for _, name := range []string{TracepointRequestIssue, TracepointRequestComplete} {
		switch args := tracepoints[name]; {
		case !args.Present:
			f.Status, f.Detail = StatusMissing, "this kernel has no tracepoint "+name
			f.Cost, f.Fix = costOfNoBlock, "use a kernel with CONFIG_BLOCK=y and CONFIG_TRACEPOINTS=y"
			return f
		case args.Object < 0:
			f.Status, f.Detail = StatusMissing, "the tracepoint "+name+" of this kernel does not say which request it is about"
			f.Cost, f.Fix = costOfNoBlock, "report this with the kernel's release"
			return f
		}
	}
	return f
}

const costOfNoBlock = "block requests cannot be traced; packets can"

func (c *checker) ring() Finding {
	f := Finding{Name: FindingRing, Status: StatusOK, Detail: "BPF ring buffer can be made"}
	err := c.haveRing()
	switch {
	case err == nil:
	case errors.Is(err, ebpf.ErrNotSupported):
		f.Status, f.Detail = StatusMissing, "this kernel has no BPF ring buffer"
		f.Fix = "boot Linux 5.8 or later with CONFIG_BPF_SYSCALL=y"
	default:
		f.Status, f.Detail = StatusUnknown, "cannot be told without privilege"
	}
	return f
}

// locked is about kernels before 5.11, where BPF maps count as locked memory.
func (c *checker) locked() Finding {
	f := Finding{Name: FindingMemlock, Status: StatusOK, Detail: "BPF maps are charged to the memory cgroup"}
	if c.version() >= 5<<8|11 {
		return f
	}
	unlimited, err := c.memlock()
	switch {
	case err == nil && unlimited, c.caps.has(capSysResource):
		f.Detail = "limit can be raised"
	default:
		f.Status, f.Detail = StatusMissing, "the limit of locked memory is too low for BPF maps"
		f.Fix = "raise it with ulimit -l unlimited, or run it as root"
	}
	return f
}

func (c *checker) jit() Finding {
	f := Finding{Name: FindingJIT, Status: StatusOK, Detail: "on"}
	text, err := c.text("/proc/sys/net/core/bpf_jit_enable")
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Status, f.Detail = StatusUnknown, "cannot be told without privilege"
	case err != nil || text == "0":
		f.Status, f.Detail = StatusLimited, "off"
		f.Cost = "probes are interpreted, several times slower"
		f.Fix = "set sysctl net.core.bpf_jit_enable=1 on a kernel with CONFIG_BPF_JIT=y"
	}
	return f
}

// symbols looks at the first lines only: addresses are hidden in all or none.
func (c *checker) symbols() Finding {
	f := Finding{Name: FindingSymbols, Status: StatusOK, Detail: "addresses can be read"}
	file, err := os.Open(c.path("/proc/kallsyms"))
	if err != nil {
		return hiddenSymbols("no /proc/kallsyms", "use a kernel with CONFIG_KALLSYMS=y")
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for range 64 {
		if !lines.Scan() {
			break
		}
		if addr, n := parseHex(lines.Bytes()); n > 0 && addr != 0 {
			return f
		}
	}
	return hiddenSymbols("addresses are hidden", "run it as root (CAP_SYSLOG) with sysctl kernel.kptr_restrict 0 or 1")
}

func hiddenSymbols(detail, fix string) Finding {
	return Finding{
		Name: FindingSymbols, Status: StatusLimited, Detail: detail,
		Cost: "functions and drop sites cannot be named", Fix: fix,
	}
}

func (c *checker) timeNS() Finding {
	f := Finding{Name: FindingTimeNS, Status: StatusOK, Detail: "the kernel's own"}
	shift, err := timeNamespaceShift(c.path("/proc/self"))
	switch {
	case err != nil:
		f.Status, f.Detail = StatusLimited, err.Error()
		f.Cost = "times may be wrong if this process is in a time namespace"
		f.Fix = "mount procfs on /proc"
	case shift != 0:
		f.Detail = fmt.Sprintf("%+.3f s from the kernel's, which is taken into account", float64(shift)/1e9)
	}
	return f
}
