package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

// flushTimeout bounds how long the exporters may take at the end.
const flushTimeout = 15 * time.Second

// reported says what the kernel side was asked to report, without which its records
// can't be understood.
type reported struct {
	skbFields       []event.SkbField // members of skbs; nil: none
	sampleThreshold uint64           // see parseSample
}

// session is what every tracing run has: its files, its exporters, the clock,
// and what reads the ring. Its members are set in this order, and those that
// are set are released by abort or finish.
type session struct {
	run    runFlags
	output outputSettings
	sys    system
	logger *slog.Logger
	dial   dialer  // of the OTLP endpoint; nil: the usual one
	shared *shared // with other sessions of this process; nil: there are none

	host        host
	instance    string // service.instance.id
	seed        [16]byte
	reported    // set before connect
	claims      claims
	recordFile  *os.File // nil without --record
	summaryFile *os.File // nil without --summary-file
	out         *outputs
	clock       *kernel.Clock
	reader      *ringbuf.Reader
	pipeline    *pipeline
	capture     *capture
	watchdog    *watchdog // nil without --max-cpu and --max-loss
	started     time.Time // listening
	ended       time.Time // no longer

	stop       context.CancelFunc // ends what runs in the background
	background sync.WaitGroup
}

// open names the run and opens what the flags name, before anything is attached.
func (s *session) open(ctx context.Context) (err error) {
	if s.shared != nil {
		return s.join()
	}
	if s.host, err = thisHost(); err != nil {
		return err
	}
	if s.instance, s.seed, err = newInstance(); err != nil {
		return err
	}
	if err := clearReadyFile(s.run.readyFile); err != nil {
		return err
	}
	// The recording holds addresses of the kernel as they are.
	if s.recordFile, err = s.claims.open("--record", s.run.record, 0o600); err != nil {
		return err
	}
	if s.summaryFile, err = s.claims.open("--summary-file", s.run.summaryFile, 0o644); err != nil {
		return err
	}
	file, err := s.claims.open("--output", s.output.path, 0o644)
	if err != nil {
		return err
	}
	s.out, err = openOutputs(ctx, outputOptions{
		settings: s.output,
		host:     s.host,
		instance: s.instance,
		file:     file,
		dial:     s.dial,
	}, s.sys, s.logger)
	return err
}

// connect puts ring, pipeline and exporters together. names gives what the
// pipeline takes its names from; its recorder is nil without --record.
func (s *session) connect(ring *ebpf.Map, names func(*recording.Writer) pipelineNames) (err error) {
	if err := s.claims.begin(); err != nil {
		return err
	}
	if s.clock, err = kernel.NewClock(); err != nil {
		return err
	}
	recorder, err := newRecorder(s.recordFile, s.host, s.clock, s.seed, s.reported)
	if err != nil {
		return err
	}
	if s.reader, err = ringbuf.NewReader(ring); err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	s.pipeline = newPipeline(pipelineOptions{
		pipelineNames: names(recorder),
		clock:         s.clock,
		sample:        s.sampleThreshold,
		seed:          s.seed,
		rawAddresses:  s.output.rawAddresses,
		describe:      s.output.describe,
		tracker:       trackerOptions(),
		block:         blockOptions(),
		only:          s.output.only,
		correlate:     s.output.correlate,
		limit:         s.run.limit,
		exporters:     s.out.exporters,
	})
	s.capture = &capture{
		reader:   s.reader,
		pipeline: s.pipeline,
		recorder: recorder,
		monoNs:   s.clock.MonoNs,
	}
	s.started = time.Now()
	return nil
}

// abort releases what a failed start leaves. What goes wrong with it matters
// less than the error of the start.
func (s *session) abort() {
	if s.reader != nil {
		_ = s.reader.Close()
	}
	if s.out != nil && s.shared == nil {
		s.out.discard()
	}
	s.claims.abandon()
}

// accompany starts what runs beside the tracing: it follows steps of the wall
// clock, and looks whether the receiver of the spans is there.
func (s *session) accompany() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.background.Go(func() {
		if err := s.clock.Run(ctx); err != nil {
			s.logger.Warn("wall-clock times may be off after a clock step", "error", err)
		}
	})
	if s.out.client != nil && s.shared == nil {
		s.background.Go(func() {
			if s.dial != nil {
				warnProxy(s.out.target, s.logger)
			}
			warnUnreachable(ctx, s.out.target, s.dial, s.logger)
		})
	}
}

// trace reads until there is a reason to stop.
func (s *session) trace(ctx context.Context) error {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	return s.capture.run(ctx)
}

// limited gives a context that also ends with --duration, or when nobody reads
// the output any more.
func (s *session) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := s.out.untilUnwanted(ctx)
	if s.run.duration == 0 {
		return ctx, cancel
	}
	ctx, cancelDeadline := context.WithDeadline(ctx, s.started.Add(s.run.duration))
	return ctx, func() { cancelDeadline(); cancel() }
}

// drain detaches and reads what is left: nothing that was promised gets lost.
func (s *session) drain(detach func() error) error {
	s.ended = time.Now()
	return errors.Join(detach(), s.capture.drain())
}

// close ends what is open as unfinished, flushes the exporters, completes the
// recording and tells what the run came to. errs are what went wrong before;
// release gives the kernel side back.
func (s *session) close(summary *export.Summary, release func() error, errs ...error) error {
	s.halt()
	if s.shared != nil {
		return s.leave(summary, release, errs)
	}
	errs = append(errs, closeRecorder(s.capture.recorder, s.recordFile, summary.KernelLost))
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	lost, closeErr := s.out.shutdown(ctx)
	errs = append(errs, closeErr, s.reader.Close(), release())
	summary.DurationNs = uint64(s.ended.Sub(s.started))
	summary.Exporters = s.out.summaries()
	fmt.Fprintln(s.sys.stderr, summary.String())
	errs = append(errs, writeSummary(summary, s.summaryFile))
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, lost)
	}
	return verdict(summary, lost)
}

// interrupted makes one sentence of a start that a signal ended.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return errors.New("interrupted while attaching: nothing was traced")
	}
	return err
}

// trackerOptions and blockOptions are the trackers' defaults; a recording keeps
// them.
func trackerOptions() journey.Options { return journey.Options{} }
func blockOptions() blockio.Options   { return blockio.Options{} }
