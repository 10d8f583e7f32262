// Package vm runs commands in virtual machines with the kernels that
// otel-kprobe supports, for tests and benchmarks.
//
// It wraps run.sh of this directory, which emulates the machine (QEMU's TCG, no
// KVM needed), and builds and caches kernels and root file systems on first
// use. The command runs as root, with network, tracefs, debugfs and bpffs; the
// host's loopback interface is 10.0.2.2 in the guest.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrMachine says that the virtual machine itself failed: kernel panic, no
// boot, timeout, or no images. The error that wraps it has the reason.
var ErrMachine = errors.New("run virtual machine")

// machineFailed is run.sh's exit status when the machine failed rather than
// the command in it.
const machineFailed = 125

// killDelay is how long run.sh may take to stop QEMU and remove its files
// after the context has ended.
const killDelay = 5 * time.Second

// Kernels returns the kernel series under test, oldest first.
func Kernels() []string { return []string{"5.10", "6.1", "6.12", "7.3"} }

// Spec describes a virtual machine. The zero value is a 6.12 kernel with
// run.sh's defaults, its output discarded.
type Spec struct {
	Kernel  string    // one of Kernels; "" is 6.12
	Share   string    // host directory, read-only at /share, where the command starts; "" is none
	Out     string    // host directory that receives what the command leaves in /out; "" is none
	Env     []string  // "NAME=value" for the command
	ICount  bool      // deterministic clock: an instruction takes 2 ns of guest time; one processor; warm up first
	Peers   bool      // root file system with pwru, bpftrace and libbpf-tools
	Docker  bool      // root file system with dockerd and Compose instead
	SMP     int       // processors; 0 is 2
	MemMB   int       // memory in MiB; 0 is 2048
	Scratch int       // size of /dev/scratch in MiB; 0 is 256
	Append  string    // more kernel command line
	Console string    // host file that receives the kernel's console output; "" is none
	Stdout  io.Writer // the command's standard output, live; nil discards
	Stderr  io.Writer // the command's standard error, live; nil discards

	// Timeout bounds boot and command together, on the host's clock, rounded up
	// to whole seconds; 0 is ten minutes.
	Timeout time.Duration
}

// Run boots the machine, runs the command in it as root and returns its exit
// status. When the machine fails, the error wraps ErrMachine and says why; when
// ctx ends first, the error wraps ctx's and the machine is stopped.
func Run(ctx context.Context, spec Spec, cmd ...string) (exit int, err error) {
	dir, err := find()
	if err != nil {
		return machineFailed, err
	}
	report, err := os.CreateTemp("", "vm-report-")
	if err != nil {
		return machineFailed, fmt.Errorf("create the machine's report file: %w", err)
	}
	defer os.Remove(report.Name())
	if err := report.Close(); err != nil {
		return machineFailed, fmt.Errorf("create the machine's report file: %w", err)
	}

	var harness bytes.Buffer
	args := append([]string{"--report", report.Name()}, spec.args()...)
	run := exec.CommandContext(ctx, filepath.Join(dir, "run.sh"), append(append(args, "--"), cmd...)...)
	run.Stdout = spec.Stdout
	run.Stderr = &harness
	if spec.Stderr != nil {
		run.Stderr = spec.Stderr
	}
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	run.WaitDelay = killDelay
	err = run.Run()
	if ctx.Err() != nil {
		return machineFailed, fmt.Errorf("%w: %w", ErrMachine, context.Cause(ctx))
	}
	return outcome(run, err, report.Name())
}

// outcome tells the command's exit status from a failure of the machine, which
// alone fills the report.
func outcome(run *exec.Cmd, err error, report string) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return machineFailed, fmt.Errorf("%w: start run.sh: %w", ErrMachine, err)
	}
	reason, err := os.ReadFile(report)
	if err != nil {
		return machineFailed, fmt.Errorf("read the machine's report: %w", err)
	}
	if len(reason) > 0 {
		return machineFailed, fmt.Errorf("%w: %s", ErrMachine, strings.TrimSpace(string(reason)))
	}
	return run.ProcessState.ExitCode(), nil
}

// args returns run.sh's options for the spec.
func (s Spec) args() []string {
	var args []string
	option := func(name, value string) {
		if value != "" && value != "0" {
			args = append(args, name, value)
		}
	}
	option("--kernel", s.Kernel)
	option("--share", s.Share)
	option("--out", s.Out)
	option("--smp", strconv.Itoa(s.SMP))
	option("--mem", strconv.Itoa(s.MemMB))
	option("--scratch", strconv.Itoa(s.Scratch))
	option("--append", s.Append)
	option("--console", s.Console)
	option("--timeout", strconv.FormatInt(int64((s.Timeout+time.Second-1)/time.Second), 10))
	for _, e := range s.Env {
		option("--env", e)
	}
	if s.ICount {
		args = append(args, "--icount")
	}
	if s.Peers {
		args = append(args, "--peers")
	}
	if s.Docker {
		args = append(args, "--docker")
	}
	return args
}

// find returns the directory of run.sh: test/vm of the repository that holds
// the working directory, which for a Go test is its package's.
func find() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find test/vm/run.sh: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		candidate := filepath.Join(dir, "test", "vm")
		if _, err := os.Stat(filepath.Join(candidate, "run.sh")); err == nil {
			return candidate, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find test/vm/run.sh: %s is not inside the repository", wd)
		}
	}
}
