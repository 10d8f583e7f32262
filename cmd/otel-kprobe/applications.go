package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/otel-kprobe/otel-kprobe/internal/applications"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

const (
	// statementFunction is what package otelkprobe calls to tell of a span.
	statementFunction = "github.com/otel-kprobe/otel-kprobe/otelkprobe.noteV1"
	// applicationInterval is how often applications are looked for that were started
	// since.
	applicationInterval = time.Second
	// firstScansFor bounds how long listening may wait until all processes were looked
	// at.
	firstScansFor = 3 * time.Second
)

// applicationFinder finds applications: *applications.Finder.
type applicationFinder interface {
	Scan(ctx context.Context) (applications.Changes, error)
	Behind() bool
	Stats() applications.Stats
}

// statementLoser counts lost statements: *bpf.Objects, *bpf.BlockObjects.
type statementLoser interface {
	StatementsLost() (uint64, error)
}

// applicationProbes probes applications that tell of their spans during a run. Nil
// does nothing.
type applicationProbes struct {
	finder applicationFinder
	attach func(applications.Program) (io.Closer, error)
	logger *slog.Logger
	stop   context.CancelFunc
	ended  sync.WaitGroup

	// The members below are those of the goroutine between start and close.
	links  map[applications.ID]io.Closer
	probed uint64 // in all
	failed uint64
	unread uint64
	said   applications.Stats // what the user has been told of
}

// newApplicationProbes lets program see what applications tell; without one, or when
// nothing is to be correlated, nil.
func newApplicationProbes(correlate string, program *ebpf.Program, logger *slog.Logger) *applicationProbes {
	if correlate == correlateOff || program == nil {
		return nil
	}
	return &applicationProbes{
		finder: applications.NewFinder(statementFunction),
		attach: func(p applications.Program) (io.Closer, error) { return probe.AttachApplication(program, p) },
		logger: logger,
	}
}

// start probes the applications that run, and until close those that are started.
// That they cannot be found is no reason not to trace.
func (p *applicationProbes) start(ctx context.Context) {
	if p == nil {
		return
	}
	p.links = make(map[applications.ID]io.Closer)
	begin := time.Now()
	for again := true; again; again = p.finder.Behind() && ctx.Err() == nil && time.Since(begin) < firstScansFor {
		if !p.scan(ctx) {
			return
		}
	}
	ctx, p.stop = context.WithCancel(context.Background())
	p.ended.Go(func() { p.follow(ctx) })
}

// follow scans until ctx ends.
func (p *applicationProbes) follow(ctx context.Context) {
	ticker := time.NewTicker(applicationInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !p.scan(ctx) {
			return
		}
	}
}

// scan probes what is new and detaches from what has gone. It is false when the next
// scan would fail as well.
func (p *applicationProbes) scan(ctx context.Context) bool {
	changes, err := p.finder.Scan(ctx)
	for _, found := range changes.Found {
		p.probe(found)
	}
	for _, id := range changes.Gone {
		link, ok := p.links[id]
		if !ok {
			continue // it failed
		}
		delete(p.links, id)
		if err := link.Close(); err != nil {
			p.logger.Warn("an application that has ended is still probed", "error", err)
		}
	}
	for _, unread := range changes.Unread {
		if p.unread++; p.unread == 1 {
			p.logger.Info("whether a program tells of its spans is not known", "error", unread)
		}
	}
	p.tell()
	if err != nil {
		p.logger.Warn("spans of applications that are started from now on are not known", "error", err)
	}
	return err == nil
}

// probe attaches to one application. The first one is told of, and the first failure.
func (p *applicationProbes) probe(found applications.Program) {
	link, err := p.attach(found)
	if closeErr := found.File.Close(); closeErr != nil {
		p.logger.Warn("the file of an application was not closed", "error", closeErr)
	}
	if err != nil {
		if p.failed++; p.failed == 1 {
			p.logger.Warn("spans of an application are not known", "error", err)
		}
		return
	}
	p.links[found.ID] = link
	if p.probed++; p.probed == 1 {
		p.logger.Info("an application tells of its spans", "name", found.Name, "pid", found.PID)
	}
}

// tell says once what the finder could not do.
func (p *applicationProbes) tell() {
	stats := p.finder.Stats()
	if stats.Refused > 0 && p.said.Refused == 0 {
		p.logger.Info("some processes are not asked for their spans: run as root, or with CAP_SYS_PTRACE", "count", stats.Refused)
	}
	if stats.LeftOut > 0 && p.said.LeftOut == 0 {
		p.logger.Warn("spans of some applications are not known: too many different ones run")
	}
	p.said = stats
}

// close detaches. It is to be called before the programs are closed, and may be called
// again.
func (p *applicationProbes) close() error {
	if p == nil {
		return nil
	}
	if p.stop != nil { // started
		p.stop()
		p.ended.Wait()
	}
	var errs []error
	for id, link := range p.links {
		errs = append(errs, link.Close())
		delete(p.links, id)
	}
	return errors.Join(errs...)
}

// summarize tells the summary what was probed and what was not, after close.
func (p *applicationProbes) summarize(s *export.Summary, objects statementLoser) {
	if p == nil {
		return
	}
	lost, err := objects.StatementsLost()
	if err != nil {
		p.logger.Warn("the summary lacks the statements that the kernel did not keep", "error", err)
	}
	s.KernelLost["statements_lost"] = lost
	s.Applications, s.ApplicationsUnread = p.probed, p.unread
	s.KernelLost["applications_failed"] = p.failed
	s.KernelLost["applications_left_out"] = p.finder.Stats().LeftOut
}
