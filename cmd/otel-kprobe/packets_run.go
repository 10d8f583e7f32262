package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// flushTimeout bounds how long the exporters may take at the end.
const flushTimeout = 15 * time.Second

// packetsRun is one run of the command packets. Its members are set in this
// order, and those that are set are released by abort or finish.
type packetsRun struct {
	settings packetsSettings
	sys      system
	logger   *slog.Logger
	own      *ownTraffic

	host        host
	instance    string // service.instance.id
	seed        [16]byte
	claims      claims
	recordFile  *os.File // nil without --record
	summaryFile *os.File // nil without --summary-file
	out         *outputs
	kernel      *attached
	clock       *kernel.Clock
	reader      *ringbuf.Reader
	pipeline    *pipeline
	capture     *capture
	started     time.Time // listening
	ended       time.Time // no longer

	stop       context.CancelFunc // ends what runs in the background
	background sync.WaitGroup
}

// runPackets traces until ctx ends, the duration is over or the limit reached.
// Exit order: detach, drain the ring, close open journeys, flush, report.
func runPackets(ctx context.Context, s packetsSettings, sys system, logger *slog.Logger) error {
	r := &packetsRun{settings: s, sys: sys, logger: logger, own: newOwnTraffic(logger)}
	if err := r.start(ctx); err != nil {
		r.abort()
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return errors.New("interrupted while attaching: nothing was traced")
		}
		return err
	}
	r.accompany()
	fmt.Fprintln(sys.stderr, export.Listening(r.kernel.attachment.Attached, r.kernel.skipped, r.kernel.took))
	err := announce(s.readyFile)
	if err == nil {
		err = r.trace(ctx)
	}
	return r.finish(err)
}

// start opens the outputs, attaches and puts the parts together.
func (r *packetsRun) start(ctx context.Context) (err error) {
	if r.host, err = thisHost(); err != nil {
		return err
	}
	if r.instance, r.seed, err = newInstance(); err != nil {
		return err
	}
	if err := r.openFiles(ctx); err != nil {
		return err
	}
	progress := export.NewProgress(r.sys.stderr, terminalOptions(r.sys.stderr, r.sys.getenv), "Attaching")
	r.kernel, err = attach(ctx, r.settings, r.logger, progress.Update)
	progress.Done()
	if err != nil {
		return err
	}
	return r.connect()
}

// openFiles opens what the flags name, before anything is attached.
func (r *packetsRun) openFiles(ctx context.Context) (err error) {
	if err := clearReadyFile(r.settings.readyFile); err != nil {
		return err
	}
	// The recording holds addresses of the kernel as they are.
	if r.recordFile, err = r.claims.open("--record", r.settings.record, 0o600); err != nil {
		return err
	}
	if r.summaryFile, err = r.claims.open("--summary-file", r.settings.summaryFile, 0o644); err != nil {
		return err
	}
	file, err := r.claims.open("--output", r.settings.output.path, 0o644)
	if err != nil {
		return err
	}
	r.out, err = openOutputs(ctx, outputOptions{
		settings: r.settings.output,
		host:     r.host,
		instance: r.instance,
		file:     file,
		dial:     r.own.dial,
	}, r.sys, r.logger)
	return err
}

// connect puts the parts together: ring, pipeline, exporters.
func (r *packetsRun) connect() (err error) {
	r.own.excludeIn(r.kernel.objects)
	if err := r.claims.begin(); err != nil {
		return err
	}
	if r.clock, err = kernel.NewClock(); err != nil {
		return err
	}
	names := newLiveNames(r.kernel.symbols, r.logger)
	go names.warm() // nobody waits for it but the first trace
	recorder, recorded, err := newRecorder(r.recordFile, r.host, r.clock, r.seed, names)
	if err != nil {
		return err
	}
	if r.reader, err = ringbuf.NewReader(r.kernel.objects.Ring()); err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	r.pipeline = newPipeline(pipelineOptions{
		names:        recorded,
		clock:        r.clock,
		seed:         r.seed,
		rawAddresses: r.settings.output.rawAddresses,
		tracker:      trackerOptions(),
		limit:        r.settings.limit,
		exporters:    r.out.exporters,
	})
	r.capture = &capture{
		objects:  r.kernel.objects,
		reader:   r.reader,
		pipeline: r.pipeline,
		recorder: recorder,
		monoNs:   r.clock.MonoNs,
	}
	r.started = time.Now()
	return nil
}

// abort releases what a failed start leaves. What goes wrong with it matters
// less than the error of start.
func (r *packetsRun) abort() {
	if r.kernel != nil {
		_ = r.kernel.attachment.Close()
	}
	if r.reader != nil {
		_ = r.reader.Close()
	}
	if r.out != nil {
		r.out.discard()
	}
	r.own.forget()
	if r.kernel != nil {
		_ = r.kernel.objects.Close()
	}
	r.claims.abandon()
}

// accompany starts what runs beside the tracing: it follows steps of the wall
// clock, and looks whether the receiver of the spans is there.
func (r *packetsRun) accompany() {
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	r.background.Go(func() {
		if err := r.clock.Run(ctx); err != nil {
			r.logger.Warn("wall-clock times may be off after a clock step", "error", err)
		}
	})
	if r.out.client != nil {
		r.background.Go(func() {
			warnProxy(r.out.target, r.logger)
			warnUnreachable(ctx, r.out.target, r.own.dial, r.logger)
		})
	}
}

// trace reads until there is a reason to stop.
func (r *packetsRun) trace(ctx context.Context) error {
	ctx, cancel := r.out.untilUnwanted(ctx)
	defer cancel()
	if r.settings.duration > 0 {
		ctx, cancel = context.WithDeadline(ctx, r.started.Add(r.settings.duration))
		defer cancel()
	}
	return r.capture.run(ctx)
}

// finish detaches and lets nothing get lost that was promised. err is what
// ended the tracing.
func (r *packetsRun) finish(err error) error {
	r.ended = time.Now()
	live, tracked := r.stillTracked()
	missed := r.kernel.attachment.Missed() // detached links can't be asked
	errs := []error{err, r.kernel.attachment.Close(), r.capture.drain()}
	r.capture.closeJourneys()
	r.stop()
	r.background.Wait()
	summary := r.summary(live, tracked, missed)
	errs = append(errs, closeRecorder(r.capture.recorder, r.recordFile, summary.KernelLost))
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	lost, closeErr := r.out.shutdown(ctx)
	r.own.forget()
	errs = append(errs, closeErr, r.reader.Close(), r.kernel.objects.Close())
	summary.Exporters = r.out.summaries()
	fmt.Fprintln(r.sys.stderr, summary.String())
	errs = append(errs, writeSummary(&summary, r.summaryFile))
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, lost)
	}
	return verdict(&summary, lost)
}

// trackerOptions are the tracker's defaults; a recording keeps them.
func trackerOptions() journey.Options { return journey.Options{} }
