package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

func TestReport(t *testing.T) {
	cannot := &kernel.CannotTraceError{Missing: "no kprobes", Fix: "get some"}
	for _, c := range []struct {
		name string
		err  error
		want outcome
	}{
		{"all well", nil, outcome{}},
		{"failed", errors.New("read the ring"), outcome{Status: 1, Stderr: "otel-kprobe: read the ring\n"}},
		{"several", errors.Join(errors.New("one"), errors.New("two\r\n  three")), outcome{Status: 1, Stderr: "otel-kprobe: one; two; three\n"}},
		{"usage", usageErrorf("read --x"), outcome{Status: 2, Stderr: "otel-kprobe: read --x\n"}},
		{"usage, wrapped", fmt.Errorf("begin: %w", usageErrorf("read --x")), outcome{Status: 2, Stderr: "otel-kprobe: begin: read --x\n"}},
		{"cannot trace", fmt.Errorf("begin: %w", cannot), outcome{Status: 3, Stderr: "otel-kprobe: begin: cannot trace packets here: no kprobes; get some\n"}},
		{"lost", &statusError{exitLostSpans, errors.New("lost 3 spans")}, outcome{Status: 4, Stderr: "otel-kprobe: lost 3 spans\n"}},
		{"silent", &silentError{exitUsage}, outcome{Status: 2}},
		{"refused by the kernel", explainRefusal(fmt.Errorf("load: %w", os.ErrPermission)), outcome{
			Status: 3, Stderr: "otel-kprobe: load: permission denied (a container's seccomp profile or a security module forbids it: see 'otel-kprobe check')\n",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			got := outcome{Status: report(&stderr, c.err), Stderr: stderr.String()}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	lossy := &export.Summary{Exporters: []export.ExporterSummary{{Dropped: 1, Failed: 2}, {Unsent: 4, Unread: 8}}}
	for _, c := range []struct {
		name    string
		summary *export.Summary
		failure error
		want    string
	}{
		{"nothing lost", &export.Summary{}, nil, ""},
		{"lost", lossy, nil, "lost 7 spans on their way out"},
		{"lost, and why", lossy, errors.New("no collector"), "lost 7 spans on their way out: no collector"},
		{"failed", &export.Summary{}, errors.New("sync"), "spans may be lost: sync"},
		{
			"histograms", &export.Summary{HistogramsUnsent: 2}, nil,
			"the latency histograms of the whole run did not reach the OTLP endpoint: check its address and that it runs",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := verdict(c.summary, c.failure)
			var status *statusError
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, &status) || status.status != exitLostSpans || err.Error() != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// The first signal asks, the second ends the program at once.
func TestObey(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	signals, exited := make(chan os.Signal), make(chan int)
	go obey(signals, cancel, func(status int) { exited <- status })
	signals <- os.Interrupt
	<-ctx.Done()
	select {
	case status := <-exited:
		t.Fatalf("exited with %d after one signal", status)
	default:
	}
	signals <- syscall.SIGTERM
	if got := <-exited; got != 128+15 {
		t.Errorf("status %d", got)
	}
}
