package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/applications"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// scriptedFinder gives one step at each scan, and then nothing.
type scriptedFinder struct {
	steps []finderStep
	scans int
}

type finderStep struct {
	changes applications.Changes
	err     error
	behind  bool
	stats   applications.Stats
}

func (f *scriptedFinder) at(scan int) finderStep {
	if len(f.steps) == 0 {
		return finderStep{}
	}
	if scan >= len(f.steps) {
		return finderStep{stats: f.steps[len(f.steps)-1].stats}
	}
	return f.steps[scan]
}

func (f *scriptedFinder) Scan(context.Context) (applications.Changes, error) {
	f.scans++
	step := f.at(f.scans - 1)
	return step.changes, step.err
}

func (f *scriptedFinder) Behind() bool              { return f.at(f.scans - 1).behind }
func (f *scriptedFinder) Stats() applications.Stats { return f.at(f.scans - 1).stats }

// applicationRun is applicationProbes with a finder, and what came of it.
type applicationRun struct {
	*applicationProbes
	finder *scriptedFinder
	log    bytes.Buffer

	mu     sync.Mutex
	events []string // attached and detached, in their order
}

func (r *applicationRun) note(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

// since gives what happened since the last call.
func (r *applicationRun) since() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

var errRefusedApplication = errors.New("attach to bad: operation not permitted")

// newApplicationRun attaches to everything but what is named bad.
func newApplicationRun(t *testing.T, steps ...finderStep) *applicationRun {
	t.Helper()
	r := &applicationRun{finder: &scriptedFinder{steps: steps}}
	r.applicationProbes = &applicationProbes{
		finder: r.finder,
		attach: func(p applications.Program) (io.Closer, error) {
			if p.Name == "bad" {
				return nil, errRefusedApplication
			}
			r.note("attached " + p.Name)
			return closerFunc(func() error {
				r.note("detached " + p.Name)
				return nil
			}), nil
		},
		logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	}
	return r
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// found makes a program with an open file.
func found(t *testing.T, id applications.ID, name string) applications.Program {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return applications.Program{ID: id, Name: name, PID: int(id) * 10, File: file}
}

// TestApplicationProbes expects what runs at the start to be probed when start returns,
// what comes later to be probed, what goes to be let go, and all of it in the end.
func TestApplicationProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, bad, second, third := found(t, 1, "first"), found(t, 2, "bad"), found(t, 3, "second"), found(t, 4, "third")
		worse := found(t, 5, "bad")
		r := newApplicationRun(
			t,
			finderStep{behind: true, stats: applications.Stats{Refused: 3}, changes: applications.Changes{Found: []applications.Program{first}}},
			finderStep{stats: applications.Stats{Refused: 5}, changes: applications.Changes{
				Found: []applications.Program{bad, second}, Unread: []error{errors.New("read the functions of x")},
			}},
			finderStep{stats: applications.Stats{Refused: 6, LeftOut: 2}, changes: applications.Changes{
				Found: []applications.Program{third, worse}, Gone: []applications.ID{1, 2}, Unread: []error{errors.New("read the functions of y")},
			}},
		)
		r.start(t.Context())
		synctest.Wait()
		if diff := cmp.Diff([]string{"attached first", "attached second"}, r.since()); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}
		time.Sleep(applicationInterval)
		synctest.Wait()
		if diff := cmp.Diff([]string{"attached third", "detached first"}, r.since()); diff != "" {
			t.Errorf("after a while (-want +got):\n%s", diff)
		}
		time.Sleep(10 * applicationInterval)
		synctest.Wait()
		if err := errors.Join(r.close(), r.close()); err != nil {
			t.Error(err)
		}
		events := r.since()
		slices.Sort(events)
		if diff := cmp.Diff([]string{"detached second", "detached third"}, events); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
		for _, p := range []applications.Program{first, bad, second, third, worse} {
			if err := p.File.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("the file of %s: %v, want it to be closed", p.Name, err)
			}
		}
		summary := export.Summary{KernelLost: map[string]uint64{}}
		r.summarize(&summary, lostStatements(4))
		want := export.Summary{Applications: 3, ApplicationsUnread: 2, KernelLost: map[string]uint64{"applications_failed": 2, "applications_left_out": 2, "statements_lost": 4}}
		if diff := cmp.Diff(want, summary); diff != "" {
			t.Errorf("summary (-want +got):\n%s", diff)
		}
		wantLog := `level=INFO msg="an application tells of its spans" name=first pid=10
level=INFO msg="some processes are not asked for their spans: run as root, or with CAP_SYS_PTRACE" count=3
level=WARN msg="spans of an application are not known" error="attach to bad: operation not permitted"
level=INFO msg="whether a program tells of its spans is not known" error="read the functions of x"
level=WARN msg="spans of some applications are not known: too many different ones run"
`
		if diff := cmp.Diff(wantLog, r.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// TestApplicationProbesBehind expects the start to be over in spite of a machine with
// more processes than can be looked at.
func TestApplicationProbesBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := make([]finderStep, 1000)
		for i := range steps {
			steps[i].behind = true
		}
		r := newApplicationRun(t, steps...)
		r.applicationProbes.finder = slowFinder{r.finder}
		begin := time.Now()
		r.start(t.Context())
		if took := time.Since(begin); took < firstScansFor || took > firstScansFor+time.Second {
			t.Errorf("the start took %v, want about %v", took, firstScansFor)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
}

// slowFinder takes its time.
type slowFinder struct{ *scriptedFinder }

func (f slowFinder) Scan(ctx context.Context) (applications.Changes, error) {
	time.Sleep(time.Second / 4)
	return f.scriptedFinder.Scan(ctx)
}

// TestApplicationProbesFail expects a failing scan to be told of once, at the start and
// later, and what is attached to be detached nevertheless.
func TestApplicationProbesFail(t *testing.T) {
	failed := finderStep{err: errors.New("list processes: gone")}
	for _, test := range []struct {
		name   string
		before int // scans that succeed
	}{{"at the start", 0}, {"later", 2}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := make([]finderStep, test.before, test.before+2)
				r := newApplicationRun(t, append(steps, failed, failed)...)
				r.start(t.Context())
				time.Sleep(10 * applicationInterval)
				if err := r.close(); err != nil {
					t.Error(err)
				}
				if r.finder.scans != test.before+1 {
					t.Errorf("%d scans, want none after the one that failed", r.finder.scans)
				}
				want := `level=WARN msg="spans of applications that are started from now on are not known" error="list processes: gone"` + "\n"
				if diff := cmp.Diff(want, r.log.String()); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestApplicationProbesOff expects nothing to be done where nothing is to be known.
func TestApplicationProbesOff(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	for _, p := range []*applicationProbes{
		newApplicationProbes(correlateOff, new(ebpf.Program), logger),
		newApplicationProbes(correlateLink, nil, logger),
	} {
		if p != nil {
			t.Fatal("applications would be looked for")
		}
		p.start(t.Context())
		summary := export.Summary{}
		p.summarize(&summary, lostStatements(4))
		if err := p.close(); err != nil || !cmp.Equal(summary, export.Summary{}) {
			t.Errorf("%v, %+v, want nothing", err, summary)
		}
	}
	if newApplicationProbes(correlateLink, new(ebpf.Program), logger) == nil {
		t.Error("applications would not be looked for")
	}
}

// lostStatements is a statementLoser.
type lostStatements uint64

func (n lostStatements) StatementsLost() (uint64, error) { return uint64(n), nil }
