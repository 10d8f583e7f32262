package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// flushTimeout bounds how long the exporters may take at the end.
const flushTimeout = 15 * time.Second

// packetsRun is one run of the command packets.
type packetsRun struct {
	settings packetsSettings
	sys      system
	logger   *slog.Logger

	kernel      *attached
	own         *ownTraffic
	out         *outputs
	clock       *kernel.Clock
	pipeline    *pipeline
	capture     *capture
	record      *os.File // nil without --record
	summaryFile *os.File // nil without --summary-file
	started     time.Time
	missed      uint64 // hits that the kernel's links left out
}

// runPackets traces until ctx ends, the duration is over or the limit reached.
// Exit order: detach, drain the ring, close open journeys, flush, report.
func runPackets(ctx context.Context, s packetsSettings, sys system, logger *slog.Logger) error {
	r := &packetsRun{settings: s, sys: sys, logger: logger, own: &ownTraffic{logger: logger}}
	if err := r.start(ctx); err != nil {
		return err
	}
	clockCtx, stopClock := context.WithCancel(context.Background())
	clockDone := r.runClock(clockCtx)
	defer func() { stopClock(); <-clockDone }()
	fmt.Fprintln(sys.stderr, export.Listening(r.kernel.attachment.Attached, r.kernel.skipped, r.kernel.took))
	err := r.announce()
	if err == nil {
		err = r.trace(ctx)
	}
	return r.finish(err)
}

// runClock follows steps of the wall clock until ctx ends.
func (r *packetsRun) runClock(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.clock.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.logger.Warn("wall-clock times may be off after a clock step", "error", err)
		}
	}()
	return done
}

// start opens the outputs and attaches. On error nothing stays attached.
func (r *packetsRun) start(ctx context.Context) error {
	instance, seed, err := newInstance()
	if err != nil {
		return err
	}
	if r.settings.record != "" {
		if r.record, err = os.Create(r.settings.record); err != nil {
			return usageErrorf("create --record file: %w", err)
		}
	}
	if r.summaryFile, err = openSummary(r.settings.summaryFile); err != nil {
		return err
	}
	if err := clearReadyFile(r.settings.readyFile); err != nil {
		return err
	}
	if r.clock, err = kernel.NewClock(); err != nil {
		return err
	}
	progress := export.NewProgress(r.sys.stderr, terminalOptions(r.sys.stderr, r.sys.getenv), "Attaching")
	r.kernel, err = attach(ctx, r.settings, r.logger, progress.Update)
	progress.Done()
	if err != nil {
		return err
	}
	if err := r.connect(ctx, instance, seed); err != nil {
		return errors.Join(err, r.kernel.attachment.Close(), r.kernel.objects.Close())
	}
	r.started = time.Now()
	return nil
}

// connect puts the parts together: ring, pipeline, exporters.
func (r *packetsRun) connect(ctx context.Context, instance string, seed [16]byte) error {
	var err error
	r.out, err = openOutputs(ctx, outputOptions{settings: r.settings.output, instance: instance, dial: r.own.dial}, r.sys, r.logger)
	if err != nil {
		return err
	}
	r.own.excludeIn(r.kernel.objects)
	if r.settings.output.otlp {
		go warnUnreachable(ctx, r.settings.output.endpoint, r.sys.getenv, r.logger)
	}
	names := newLiveNames(r.logger)
	go names.warm()
	recorder, recorded, err := r.newRecorder(seed, names)
	if err != nil {
		return err
	}
	reader, err := ringbuf.NewReader(r.kernel.objects.Ring())
	if err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	r.pipeline = newPipeline(pipelineOptions{
		names:        recorded,
		clock:        r.clock,
		seed:         seed,
		rawAddresses: r.settings.output.rawAddresses,
		tracker:      trackerOptions(),
		limit:        r.settings.limit,
		exporters:    r.out.exporters,
	})
	r.capture = &capture{
		objects:  r.kernel.objects,
		reader:   reader,
		pipeline: r.pipeline,
		recorder: recorder,
		monoNs:   r.clock.MonoNs,
	}
	return nil
}

// newRecorder wraps the names so that a recording holds each answer. Without
// --record it gives no recorder and the names as they are.
func (r *packetsRun) newRecorder(seed [16]byte, names spans.Names) (*recording.Writer, spans.Names, error) {
	if r.record == nil {
		return nil, names, nil
	}
	header, err := recordingHeader(r.clock, seed)
	if err != nil {
		return nil, nil, err
	}
	writer, err := recording.NewWriter(r.record, header)
	if err != nil {
		return nil, nil, err
	}
	r.clock.OnChange(func(fromMonoNs uint64, offsetNs int64) {
		_ = writer.ClockOffset(fromMonoNs, offsetNs) // it keeps its error for Close
	})
	return writer, recording.RecordedNames{Names: names, Writer: writer}, nil
}

// announce creates the ready file.
func (r *packetsRun) announce() error {
	if r.settings.readyFile == "" {
		return nil
	}
	if err := os.WriteFile(r.settings.readyFile, nil, 0o644); err != nil {
		return fmt.Errorf("create --ready-file: %w", err)
	}
	return nil
}

// trace reads until there is a reason to stop.
func (r *packetsRun) trace(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.settings.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.settings.duration)
		defer cancel()
	}
	if r.out.console != nil && len(r.out.exporters) == 1 {
		go func() {
			select {
			case <-r.out.console.Broken():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return r.capture.run(ctx)
}

// finish detaches and lets nothing get lost that was promised.
func (r *packetsRun) finish(err error) error {
	live, tracked := r.stillTracked()
	r.missed = r.kernel.attachment.Missed()
	errs := []error{err, r.kernel.attachment.Close(), r.capture.drain()}
	r.capture.closeJourneys()
	summary := r.summary(live, tracked)
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	shutdownErr := r.pipeline.shutdown(ctx)
	errs = append(errs, r.closeRecording(summary.KernelLost), r.out.close(ctx))
	r.own.forget()
	errs = append(errs, r.capture.reader.Close(), r.kernel.objects.Close())
	r.addExporters(&summary)
	fmt.Fprintln(r.sys.stderr, summary.String())
	if r.summaryFile != nil {
		errs = append(errs, summary.WriteJSON(r.summaryFile), r.summaryFile.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, shutdownErr)
	}
	return r.out.verdict(&summary, shutdownErr)
}

// trackerOptions are the tracker's defaults; a recording keeps them.
func trackerOptions() journey.Options { return journey.Options{} }

// openSummary creates the summary file before attaching, so that a mistyped
// path is known before anything is traced.
func openSummary(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, usageErrorf("create --summary-file: %w", err)
	}
	return file, nil
}

// clearReadyFile removes the ready file of an earlier run, and finds out before
// attaching whether a new one can be created.
func clearReadyFile(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return usageErrorf("create --ready-file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = os.Remove(path)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return usageErrorf("create --ready-file: %w", err)
	}
	return nil
}
