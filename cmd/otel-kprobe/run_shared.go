package main

import (
	"errors"
	"sync"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// shared is what the sessions of one service have in common, and what each is
// asked for while it runs.
type shared struct {
	host     host
	instance string
	out      *outputs       // they outlive the sessions
	metrics  *metricsClient // nil: no metrics are sent

	// beside is called between two looks at the ring.
	beside func() error
	// report is given what a session came to, without its exporters.
	report func(*export.Summary)
}

// join is open for a session that shares its outputs. It has ids of its own.
func (s *session) join() (err error) {
	s.host, s.out = s.shared.host, s.shared.out
	_, s.seed, err = newInstance()
	s.instance = s.shared.instance
	return err
}

// leave is the end of a session that shares its outputs: they stay open.
func (s *session) leave(summary *export.Summary, release func() error, errs []error) error {
	errs = append(errs, s.reader.Close(), release())
	summary.DurationNs = uint64(s.ended.Sub(s.started))
	s.shared.report(summary)
	return errors.Join(errs...)
}

func (s *session) sharedMetrics() *metricsClient {
	if s.shared == nil {
		return nil
	}
	return s.shared.metrics
}

// lockedExporter takes traces of several sessions.
type lockedExporter struct {
	export.Exporter
	mu *sync.Mutex
}

// Export implements export.Exporter.
func (e lockedExporter) Export(t *spans.Trace) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Exporter.Export(t)
}
