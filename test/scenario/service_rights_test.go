//go:build vm

package scenario

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// serviceUser stands for the user of otel-kprobe.service.
const serviceUser = 65534

// serviceCapabilities are those of deploy/systemd/otel-kprobe.service, and of the
// DaemonSet: test/deploy holds both to this list. On series where functions are
// attached one by one deploy/systemd/perf-events.conf adds CAP_SYS_ADMIN.
func serviceCapabilities(t *testing.T) []uintptr {
	t.Helper()
	list := []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_PTRACE}
	if autoBackend[series(t)] == "kprobe" {
		list = append(list, unix.CAP_SYS_ADMIN)
	}
	return list
}

// TestServiceRights traces with the rights of the unit alone: a user of its own, its
// capabilities, its limit of locked memory, its directory of the BPF file system.
func TestServiceRights(t *testing.T) {
	makeContextsDir(t)
	unlimitMemlock(t)
	must(t, "modprobe", "loop") // a probe of its own, which needs rights, too
	disk, dir := scratch(t), t.TempDir()
	if err := os.Chown(dir, serviceUser, serviceUser); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "otel-kprobe.yaml")
	if err := os.WriteFile(config, []byte(serviceFile("icmp", "", dir, string(disk))), 0o644); err != nil {
		t.Fatal(err)
	}
	tr := launchAs(t, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: serviceUser, Gid: serviceUser},
		AmbientCaps: serviceCapabilities(t),
	}, "run", "--config", config)
	tr.waitReady(t)
	ping(t, "", loopbackIP, pings)
	writeDirect(t, disk.node(), 0, 4096)
	if status, body := get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d %s", status, body)
	}
	o := tr.stop(t)
	if strings.Contains(o.stderr, "spans of applications are not known") {
		t.Errorf("the map of applications cannot be made:\n%s", o.stderr)
	}
	if strings.Contains(o.stderr, "requests below loop devices are shown apart") {
		t.Errorf("the loop driver cannot be probed:\n%s", o.stderr)
	}
	checkRights(t, filepath.Join(dir, "spans.jsonl"))
	t.Run("nothing left behind", checkClean)
}

// checkRights expects packets with names of functions and processes, and a request.
func checkRights(t *testing.T, path string) {
	t.Helper()
	var packets, named, requests int
	eachTrace(t, path, func(j *journey, _ ptrace.SpanSlice) {
		if j.root.attrs["otel_kprobe.journey"] == nil {
			requests++
			return
		}
		packets++
		if j.root.attrs["process.executable.name"] != nil || j.root.attrs["process.pid"] != nil {
			named++
		}
		for _, problem := range j.problems() {
			t.Errorf("%s: %s", j, problem)
		}
	})
	if packets < 2*pings || named == 0 || requests != 1 {
		t.Errorf("%d packets, %d of them with a process, and %d requests", packets, named, requests)
	}
}

// makeContextsDir is ExecStartPre of the unit, in a BPF file system that is root's alone
// as systemd mounts it.
func makeContextsDir(t *testing.T) {
	t.Helper()
	mountBPF(t)
	dir := filepath.Dir(appContextsPath)
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "install", "-d", "-m", "0700", "-o", strconv.Itoa(serviceUser), dir)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

// unlimitMemlock is LimitMEMLOCK=infinity, which matters before Linux 5.11.
func unlimitMemlock(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before); err != nil {
		t.Fatal(err)
	}
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &all); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before); err != nil {
			t.Error(err)
		}
	})
}
