package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// service is one run of the command run: both sections at work, exporters that
// they share, and what tells of it all.
type service struct {
	flags  serviceFlags
	sys    system
	logger *slog.Logger
	own    *ownTraffic

	shared      shared // without what is each part's own
	claims      claims
	summaryFile *os.File
	metrics     *ownMetrics // nil: none
	listener    *healthListener
	ended       chan *part
	errs        []error

	mu            sync.Mutex // guards what follows: metrics and the listener ask
	config        *serviceConfig
	active        map[string]*part           // at work, by section
	retiring      []*part                    // replaced, and not ended yet
	past          map[string]*export.Summary // of the parts that have ended
	missing       map[string]error           // why a section is not traced
	ready         bool
	reloads       uint64
	reloadsFailed uint64
}

func newService(f serviceFlags, c *serviceConfig, sys system, logger *slog.Logger) *service {
	return &service{
		flags: f, config: c, sys: sys, logger: logger,
		own:     newOwnTraffic(logger),
		ended:   make(chan *part, 16),
		active:  map[string]*part{},
		past:    map[string]*export.Summary{},
		missing: map[string]error{},
	}
}

// String names what is enabled.
func (c *serviceConfig) String() string {
	var sections []string
	if c.packets != nil {
		sections = append(sections, sectionPackets)
	}
	if c.block != nil {
		sections = append(sections, sectionBlock)
	}
	return strings.Join(sections, " and ")
}

// serve traces until ctx ends, the duration is over, or a section that is required
// is traced no longer. Exit order: detach, drain the rings, flush, report.
func (s *service) serve(ctx context.Context, hangups <-chan os.Signal) error {
	for _, name := range s.config.file.Unset {
		s.logger.Warn("the configuration asks for a variable that is not set; give it a default as in ${NAME:-DEFAULT}", "name", name)
	}
	if err := s.open(ctx); err != nil {
		s.abort()
		return err
	}
	parts, err := s.begin(ctx)
	if err == nil {
		err = s.claims.begin()
	}
	if err != nil {
		for _, p := range parts {
			p.run.undo()
		}
		s.abort()
		return err
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range parts {
		s.work(working, p)
	}
	s.setReady()
	s.keep(announce(s.flags.readyFile))
	if len(s.errs) == 0 {
		s.wait(working, hangups)
	}
	cancel()
	return s.finish()
}

// open opens what the file and the flags name, before anything is attached.
func (s *service) open(ctx context.Context) (err error) {
	if s.shared.host, err = thisHost(); err != nil {
		return err
	}
	s.shared.host.named = s.config.named
	if s.shared.instance, _, err = newInstance(); err != nil {
		return err
	}
	if err := clearReadyFile(s.flags.readyFile); err != nil {
		return err
	}
	if s.summaryFile, err = s.claims.open("--summary-file", s.flags.summaryFile, 0o644); err != nil {
		return err
	}
	file, err := s.claims.open("export.file", s.config.output.path, 0o644)
	if err != nil {
		return err
	}
	s.shared.out, err = openOutputs(ctx, outputOptions{
		settings: s.config.output, host: s.shared.host, instance: s.shared.instance, file: file, dial: s.own.dial,
	}, s.sys, s.logger)
	if err != nil {
		return err
	}
	s.shared.out.lock()
	if s.shared.out.client != nil {
		warnProxy(s.shared.out.target, s.logger)
	}
	if err := s.openMetrics(ctx); err != nil {
		return err
	}
	if s.config.listen == "" {
		return nil
	}
	s.listener, err = listenHealth(s.config.listen, s.metrics, s.health, s.logger)
	return err
}

// lock lets several sessions use the exporters.
func (out *outputs) lock() {
	for i := range out.exporters {
		out.exporters[i].Exporter = lockedExporter{out.exporters[i].Exporter, &sync.Mutex{}}
	}
}

// abort releases what a failed start leaves.
func (s *service) abort() {
	s.closeTelling()
	if s.shared.out != nil {
		s.shared.out.discard()
	}
	s.claims.abandon()
}

// begin attaches the sections that are enabled. One that is not required may fail,
// if there is another.
func (s *service) begin(ctx context.Context) (parts []*part, err error) {
	var failures []error
	for _, p := range s.newParts() {
		err := p.run.begin(ctx)
		switch {
		case err == nil:
			parts = append(parts, p)
		case ctx.Err() != nil || s.config.required(p.section):
			return parts, fmt.Errorf("%s: %w", p.section, err)
		default:
			s.logger.Warn(p.section+" is not traced; it is not required, so the service goes on", "error", err)
			failures = append(failures, fmt.Errorf("%s: %w", p.section, err))
			s.miss(p.section, err)
		}
	}
	if len(parts) == 0 {
		return nil, errors.Join(failures...)
	}
	return parts, nil
}

// newParts makes the parts of what is enabled.
func (s *service) newParts() (parts []*part) {
	if s.config.packets != nil {
		parts = append(parts, s.newPackets(*s.config.packets))
	}
	if s.config.block != nil {
		p := s.newPart(sectionBlock)
		p.run = &blockRun{
			session:  s.newSession(p, s.config.block.run, s.config.block.outputs()),
			settings: *s.config.block,
		}
		parts = append(parts, p)
	}
	return parts
}

func (s *service) newPackets(settings packetsSettings) *part {
	p := s.newPart(sectionPackets)
	p.run = &packetsRun{
		session:  s.newSession(p, settings.run, settings.output),
		settings: settings,
		own:      s.own,
	}
	return p
}

func (s *service) newPart(section string) *part {
	return &part{
		section: section, ended: s.ended, orders: make(chan func(), 16),
		counts: schedule{every: countEvery}, checks: schedule{every: settledEvery},
	}
}

func (s *service) newSession(p *part, run runFlags, output outputSettings) session {
	common := s.shared
	common.beside = p.beside
	common.report = func(summary *export.Summary) { p.summary = *summary }
	return session{run: run, output: output, sys: s.sys, logger: s.logger, dial: s.own.dial, shared: &common}
}

// work lets a part trace.
func (s *service) work(ctx context.Context, p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[p.section] = p
	p.start(ctx)
}

// miss notes why a section is not traced.
func (s *service) miss(section string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing[section] = err
}

func (s *service) setReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
}

// keep notes an error of the run.
func (s *service) keep(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// wait returns when there is a reason to end.
func (s *service) wait(ctx context.Context, hangups <-chan os.Signal) {
	var over <-chan time.Time
	if s.flags.duration > 0 {
		timer := time.NewTimer(s.flags.duration)
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-hangups:
			s.reload(ctx)
		case p := <-s.ended:
			if s.take(p) {
				return
			}
		}
	}
}

// take takes what a part came to that has ended, and says whether the service
// must end with it.
func (s *service) take(p *part) (end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum := s.past[p.section]; sum != nil {
		sum.Add(&p.summary)
	} else {
		s.past[p.section] = &p.summary
	}
	if p.err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", p.section, p.err))
	}
	if i := slices.Index(s.retiring, p); i >= 0 {
		s.retiring = slices.Delete(s.retiring, i, i+1)
		return p.err != nil
	}
	delete(s.active, p.section)
	if p.err == nil { // nobody reads the output any more
		return true
	}
	s.missing[p.section] = p.err
	if !s.config.required(p.section) && len(s.active) > 0 {
		s.logger.Warn(p.section+" is traced no longer; it is not required, so the service goes on", "error", p.err)
		return false
	}
	return true
}

// atWork is how many parts have not ended.
func (s *service) atWork() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.active) + len(s.retiring)
}

// finish waits for the parts, flushes, and tells what the run came to.
func (s *service) finish() error {
	for s.atWork() > 0 {
		s.take(<-s.ended)
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	lost, err := s.shared.out.shutdown(ctx)
	s.keep(err)
	s.closeTelling()
	summary := s.summary()
	fmt.Fprintln(s.sys.stderr, summary)
	if s.summaryFile != nil {
		if err := errors.Join(summary.WriteJSON(s.summaryFile), s.summaryFile.Close()); err != nil {
			s.keep(fmt.Errorf("write the file of --summary-file: %w", err))
		}
	}
	return worst(append(s.errs, verdict(summary.Whole(), lost)))
}

func (s *service) summary() *export.ServiceSummary {
	return &export.ServiceSummary{
		Packets: s.past[sectionPackets], Block: s.past[sectionBlock],
		Exporters: s.shared.out.summaries(),
		Reloads:   s.reloads, ReloadsFailed: s.reloadsFailed,
		MetricSendsFailed: s.metrics.failedSends(),
	}
}

// worst joins errors under the status that is the worst of theirs: that something
// failed, before that spans were lost.
func worst(errs []error) error {
	all := errors.Join(errs...)
	for _, err := range errs {
		if err != nil && statusOf(err) != exitLostSpans {
			return &statusError{statusOf(err), all}
		}
	}
	return all
}
