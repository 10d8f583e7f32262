//go:build vm

package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// readyWithin bounds the start under emulation on a busy machine.
	readyWithin = 240 * time.Second
	// endWithin bounds detaching and flushing.
	endWithin = 60 * time.Second
	// settle is how long the last packets may take: a delayed acknowledgement
	// and the closing of a connection are the slowest.
	settle = 400 * time.Millisecond
)

// tracer is a running `otel-kprobe packets`.
type tracer struct {
	cmd            *exec.Cmd
	dir            string
	stdout, stderr lockedBuffer
	exited         chan struct{} // closed once err is valid
	err            error
}

// lockedBuffer may be read while the process still writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// outcome is what a run left.
type outcome struct {
	exit           int
	stdout, stderr string
	dir            string
	summary        summary
}

// summary is the file of --summary-file. A pointer tells a missing number from 0.
type summary struct {
	Backend   string  `json:"backend"`
	Attached  uint64  `json:"probes_attached"`
	AttachNs  uint64  `json:"attach_ns"`
	Frames    uint64  `json:"frames"`
	Submitted *uint64 `json:"frames_submitted"`
	Tracked   *uint64 `json:"skbs_tracked"`
	Traces    uint64  `json:"traces"`
	Spans     uint64  `json:"spans"`
	Waits     uint64  `json:"waits"`
	Summaries uint64  `json:"summaries"`
	Copied    uint64  `json:"copied_spans"`

	Unsampled        uint64 `json:"unsampled"`
	PassedOver       uint64 `json:"traces_passed_over"`
	FramesPassedOver uint64 `json:"frames_passed_over"`
	FramesHandedOver uint64 `json:"frames_handed_over"`

	FunctionsShed uint64 `json:"functions_shed"`
	FramesShed    uint64 `json:"frames_shed"`
	CPUExceeded   uint64 `json:"cpu_exceeded"`
	LossExceeded  uint64 `json:"loss_exceeded"`

	KernelLost map[string]uint64 `json:"kernel_lost"`
	Tracker    map[string]uint64 `json:"tracker"`
	Exporters  []struct {
		Name     string `json:"name"`
		Spans    uint64 `json:"spans"`
		Exported uint64 `json:"exported"`
		Dropped  uint64 `json:"dropped"`
		Rejected uint64 `json:"rejected"`
		Failed   uint64 `json:"failed"`
		Unsent   uint64 `json:"unsent"`
	} `json:"exporters"`
}

func (o *outcome) output() string    { return filepath.Join(o.dir, "spans.jsonl") }
func (o *outcome) recording() string { return filepath.Join(o.dir, "recording") }

// launch is launchCommand for `packets`.
func launch(t *testing.T, args ...string) *tracer {
	t.Helper()
	return launchCommand(t, "packets", args...)
}

// launchCommand starts a command with its files in a new directory and returns at
// once. Without another exporter in args, spans go to the file output(); DIR in an
// argument is the directory.
func launchCommand(t *testing.T, name string, args ...string) *tracer {
	t.Helper()
	return launchAs(t, &syscall.SysProcAttr{}, name, args...)
}

// launchAs is launchCommand with another user, or other rights.
func launchAs(t *testing.T, who *syscall.SysProcAttr, name string, args ...string) *tracer {
	t.Helper()
	tr := &tracer{dir: t.TempDir(), exited: make(chan struct{})}
	if user := who.Credential; user != nil {
		if err := os.Chown(tr.dir, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{
		name, "--ready-file", filepath.Join(tr.dir, "ready"),
		"--summary-file", filepath.Join(tr.dir, "summary.json"),
	}
	if line := strings.Join(args, " "); name != "run" && !strings.Contains(line, "--exporter") && !strings.Contains(line, "--histogram-only") {
		all = append(all, "--exporter", "file", "--output", filepath.Join(tr.dir, "spans.jsonl"))
	}
	for _, a := range args {
		all = append(all, strings.ReplaceAll(a, "DIR", tr.dir))
	}
	tr.cmd = exec.Command(program(), all...)
	tr.cmd.Stdout, tr.cmd.Stderr, tr.cmd.SysProcAttr = &tr.stdout, &tr.stderr, who
	if err := tr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		tr.err = tr.cmd.Wait()
		close(tr.exited)
	}()
	t.Cleanup(func() {
		_ = tr.cmd.Process.Kill() // an error says that it has ended already
		<-tr.exited
	})
	return tr
}

// start is launch and waits until the probes are attached.
func start(t *testing.T, args ...string) *tracer {
	t.Helper()
	tr := launch(t, args...)
	tr.waitReady(t)
	return tr
}

func (tr *tracer) waitReady(t *testing.T) {
	t.Helper()
	begin := time.Now()
	for deadline := begin.Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(tr.dir, "ready")); err == nil {
			t.Logf("ready after %v", time.Since(begin).Round(time.Millisecond))
			return
		}
		select {
		case <-tr.exited:
			t.Fatalf("%q ended before it was ready: %v\n%s", tr.cmd.Args, tr.err, tr.stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not ready after %v\n%s", tr.cmd.Args, readyWithin, tr.stderr.String())
		}
	}
}

// end waits for the process to end by itself, or by a signal sent before.
func (tr *tracer) end(t *testing.T) *outcome {
	t.Helper()
	select {
	case <-tr.exited:
	case <-time.After(endWithin):
		t.Fatalf("otel-kprobe did not end within %v\n%s", endWithin, tr.stderr.String())
	}
	o := &outcome{
		exit: tr.cmd.ProcessState.ExitCode(), dir: tr.dir,
		stdout: tr.stdout.String(), stderr: tr.stderr.String(),
	}
	text, err := os.ReadFile(filepath.Join(tr.dir, "summary.json"))
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &o.summary)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read the summary: %v\n%s", err, text)
	}
	return o
}

// stop lets the last packets arrive, ends the tracer and expects success.
func (tr *tracer) stop(t *testing.T) *outcome {
	t.Helper()
	time.Sleep(settle)
	o := tr.signal(t, syscall.SIGTERM)
	if o.exit != 0 {
		t.Fatalf("exit status %d, want 0\n%s", o.exit, o.stderr)
	}
	return o
}

// signal sends a signal and waits for the end.
func (tr *tracer) signal(t *testing.T, s syscall.Signal) *outcome {
	t.Helper()
	if err := tr.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v\n%s", err, tr.stderr.String())
	}
	return tr.end(t)
}

// run executes any other command line of the program to its end.
func run(t *testing.T, args ...string) *outcome {
	t.Helper()
	return runAs(t, nil, args...)
}

// runAs is run with a credential, nil for root.
func runAs(t *testing.T, who *syscall.Credential, args ...string) *outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program(), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	timer := time.AfterFunc(endWithin, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return &outcome{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}
