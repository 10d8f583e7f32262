package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// fakeRun is a section without a kernel. It looks each millisecond.
type fakeRun struct {
	part    *part
	fails   chan error // what ends following early
	ending  error      // of finish
	summary export.Summary
	only    onlyRules
	until   uint64
	settled bool
}

func (r *fakeRun) begin(context.Context) error { return nil }
func (r *fakeRun) undo()                       {}

func (r *fakeRun) beginShift(time.Duration) uint64 { return 0 }

func (r *fakeRun) follow(ctx context.Context) error {
	for {
		if err := r.part.beside(); err != nil {
			return err
		}
		select {
		case err := <-r.fails:
			return err
		case <-ctx.Done():
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

func (r *fakeRun) finish(err error) error {
	r.part.summary = r.summary
	return errors.Join(err, r.ending)
}

func (r *fakeRun) soFar() export.Summary     { return r.summary }
func (r *fakeRun) judgeBy(only onlyRules)    { r.only = only }
func (r *fakeRun) endShift(monoNs uint64)    { r.until = monoNs }
func (r *fakeRun) settledBefore(uint64) bool { return r.settled }

// lockedLog may be read while others write.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a service with fake sections.
type rig struct {
	*service
	log            *lockedLog
	summary        string
	packets, block *fakeRun
}

// newRig makes a service of a configuration, with what it opens, and lets fake
// sections work.
func newRig(ctx context.Context, t *testing.T, text string) *rig {
	t.Helper()
	path := write(t, "c.yaml", []byte(text+"\nexport: {exporters: [file], file: "+filepath.Join(t.TempDir(), "spans.jsonl")+"}\n"))
	config, err := readServiceConfig(path, lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{log: &lockedLog{}, summary: filepath.Join(t.TempDir(), "summary.json")}
	sys := system{stdout: r.log, stderr: r.log, getenv: lookup(nil)}
	r.service = newService(serviceFlags{config: path, summaryFile: r.summary}, config, sys, newLogger(r.log))
	if err := r.open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.claims.begin(); err != nil {
		t.Fatal(err)
	}
	fake := func(section string, s export.Summary) *fakeRun {
		p := r.newPart(section)
		f := &fakeRun{part: p, fails: make(chan error, 1), summary: s}
		p.run = f
		r.work(ctx, p)
		return f
	}
	r.packets = fake(sectionPackets, export.Summary{Frames: 3, Traces: 1, KernelLost: map[string]uint64{"left_out": 2}})
	r.block = fake(sectionBlock, export.Summary{Block: true, Requests: 5, Traces: 5})
	r.setReady()
	return r
}

// Both are reported when it is told to end.
func TestServiceEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(ctx, t, "")
	cancel()
	r.wait(ctx, nil)
	if err := r.finish(); err != nil {
		t.Error(err)
	}
	want := `packets: 3 frames, 1 traces, 0 spans; lost: 2 (kernel left_out)
block: 5 requests, 5 traces, 0 spans; nothing lost
exported 0 to file; nothing lost
`
	if diff := cmp.Diff(want, r.log.String()); diff != "" {
		t.Error(diff)
	}
	text := string(read(t, r.summary))
	for _, part := range []string{`"packets": {`, `"block": {`, `"left_out": 2`, `"requests": 5`, `"reloads": 0`} {
		if !strings.Contains(text, part) {
			t.Errorf("the summary lacks %s:\n%s", part, text)
		}
	}
}

// A section that fails ends the service when it is required. Either way the
// status is that of the failure.
func TestServiceSectionFails(t *testing.T) {
	for _, required := range []string{"true", "false"} {
		t.Run("required "+required, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := newRig(ctx, t, "block: {required: "+required+"}")
			waited := make(chan struct{})
			go func() { r.wait(ctx, nil); close(waited) }()
			r.block.fails <- errDevicesGone
			if required == "false" {
				await(t, r.log, "block is traced no longer")
				if h := r.health(); !h.OK || h.Sections[sectionBlock] != "tracing ended early" || h.Sections[sectionPackets] != "tracing" {
					t.Errorf("health %+v", h)
				}
				cancel()
			}
			<-waited
			if required == "true" {
				cancel()
			}
			err := r.finish()
			if !errors.Is(err, errDevicesGone) || statusOf(err) != exitFailed || !strings.HasPrefix(err.Error(), "block: ") {
				t.Errorf("status %d: %v", statusOf(err), err)
			}
		})
	}
}

// A section that its watchdog has ended is traced no longer, with a status of its own.
func TestServiceWatchdog(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newRig(ctx, t, "packets: {required: false}")
	waited := make(chan struct{})
	go func() { r.wait(ctx, nil); close(waited) }()
	r.packets.fails <- &statusError{exitTooCostly, errors.New("tracing took too much")}
	await(t, r.log, "packets is traced no longer")
	if h := r.health(); !h.OK || h.Sections[sectionPackets] != "tracing took too much" || h.Sections[sectionBlock] != "tracing" {
		t.Errorf("health %+v", h)
	}
	cancel()
	<-waited
	if err := r.finish(); statusOf(err) != exitTooCostly {
		t.Errorf("status %d: %v", statusOf(err), err)
	}
}

func await(t *testing.T, log *lockedLog, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", text, log)
		}
	}
}

func TestWorst(t *testing.T) {
	lost, failed := &statusError{exitLostSpans, errors.New("lost")}, errors.New("failed")
	for _, c := range []struct {
		errs []error
		want int
	}{
		{[]error{nil, nil}, exitOK},
		{[]error{nil, lost}, exitLostSpans},
		{[]error{lost, failed}, exitFailed},
		{[]error{failed, lost}, exitFailed},
		{[]error{nil, usageError(failed), lost}, exitUsage},
	} {
		var stderr bytes.Buffer
		if got := report(&stderr, worst(c.errs)); got != c.want {
			t.Errorf("%v: status %d, want %d", c.errs, got, c.want)
		}
	}
}

// A part that is replaced ends when all that began before is complete, and not
// before what lies in the ring has been read. Its counters are added to those of
// the part in its place.
func TestServiceReplacedPart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(ctx, t, "")
	old := r.packets
	r.retiring = append(r.retiring, old.part)
	old.part.retire(7)
	begin := time.Now()
	old.part.order(func() { old.settled = true })
	next := &fakeRun{part: r.newPart(sectionPackets), fails: make(chan error, 1), summary: export.Summary{Frames: 4}}
	next.part.run = next
	r.work(ctx, next.part)
	if end := r.take(<-r.ended); end || r.active[sectionPackets] != next.part {
		t.Errorf("the service ends: %v; at work is %v", end, r.active[sectionPackets])
	}
	if took := time.Since(begin); took < handOverWait || took > handOverWithin || old.until != 7 {
		t.Errorf("it ended after %v, at %d", took, old.until)
	}
	if h := r.health(); !h.OK || h.Sections[sectionPackets] != "tracing" {
		t.Errorf("health %+v", h)
	}
	cancel()
	r.wait(ctx, nil)
	if err := r.finish(); err != nil {
		t.Error(err)
	}
	if s := r.past[sectionPackets]; s.Frames != 7 || s.KernelLost["left_out"] != 2 {
		t.Errorf("summary %+v", s)
	}
}

// What a reload may change is changed, and else nothing.
func TestServiceReload(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(ctx, t, "block: {only: [errors]}")
	original := string(read(t, r.flags.config))
	told := make(chan onlyRules, 1)
	for _, c := range []struct {
		name, text, says string
	}{
		{"nothing", original, "the configuration is reloaded: nothing has changed"},
		{"broken", strings.Replace(original, "only:", "rules:", 1), `:1:9: unknown key \"rules\"`},
		{"not while it runs", strings.Replace(original, "only:", "by: device, only:", 1), "c.yaml:1:13: block.by cannot change while it runs: restart to apply it"},
		{"disabled", "packets: {enabled: false}\n" + original, "packets.enabled cannot change while it runs"},
		{"rules", strings.Replace(original, "errors", "slow=1ms", 1), `msg="the configuration is reloaded" changed=block.only`},
	} {
		if err := os.WriteFile(r.flags.config, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.reload(ctx)
		if !strings.Contains(r.log.String(), c.says) {
			t.Errorf("%s: no %q in\n%s", c.name, c.says, r.log)
		}
	}
	r.block.part.order(func() { told <- r.block.only })
	if diff := cmp.Diff(onlyRules{slow: true, slowNs: 1e6}, <-told, cmp.AllowUnexported(onlyRules{})); diff != "" {
		t.Error(diff)
	}
	cancel()
	r.wait(ctx, nil)
	if err := r.finish(); err != nil {
		t.Error(err)
	}
	if r.reloads != 2 || r.reloadsFailed != 3 {
		t.Errorf("%d reloads, %d failed, want 2 and 3", r.reloads, r.reloadsFailed)
	}
}
