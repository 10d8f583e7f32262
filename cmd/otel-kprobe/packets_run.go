package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// packetsRun is one run of the command packets.
type packetsRun struct {
	session
	settings packetsSettings
	own      *ownTraffic
	kernel   *attached
	programs *programs // nil: none is to be traced
	// applications are nil when nothing is to be correlated.
	applications *applicationProbes
	shedding     *shedding // nil without --max-events
}

// runPackets traces until ctx ends, the duration is over or the limit reached.
// Exit order: detach, drain the ring, close open journeys, flush, report.
func runPackets(ctx context.Context, s packetsSettings, sys system, logger *slog.Logger) error {
	own := newOwnTraffic(logger)
	r := &packetsRun{
		session:  session{run: s.run, output: s.output, sys: sys, logger: logger, dial: own.dial},
		settings: s,
		own:      own,
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	err := announce(s.run.readyFile)
	if err == nil {
		err = r.trace(ctx)
	}
	return r.finish(err)
}

// begin attaches and says so. On error nothing stays behind.
func (r *packetsRun) begin(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		r.abort()
		return interrupted(ctx, err)
	}
	r.accompany()
	r.programs.accompany(r.clock.MonoNs)
	fmt.Fprintln(r.sys.stderr, export.Listening(r.kernel.attachment.Attached, r.kernel.skipped, r.kernel.took))
	if r.programs != nil {
		fmt.Fprintln(r.sys.stderr, r.programs)
	}
	return nil
}

// start opens the outputs, attaches and puts the parts together.
func (r *packetsRun) start(ctx context.Context) (err error) {
	if err := r.open(ctx); err != nil {
		return err
	}
	progress := export.NewProgress(r.sys.stderr, terminalOptions(r.sys.stderr, r.sys.getenv), "Attaching")
	r.kernel, err = attach(ctx, r.settings, r.logger, progress.Update)
	progress.Done()
	if err != nil {
		return err
	}
	r.skbFields, r.sampleThreshold = r.kernel.skbFields, r.settings.sample
	r.own.excludeIn(r.kernel.objects)
	if r.programs, err = tracePrograms(r.settings.programs, r.kernel.objects, r.kernel.options, r.logger); err != nil {
		return err
	}
	r.applications = newApplicationProbes(r.output.correlate, r.kernel.objects.Programs[bpf.ProgramApplicationStatement], r.logger)
	r.applications.start(ctx)
	names := newLiveNames(r.kernel.symbols, r.settings.kernelBTF, r.logger)
	names.program = r.programs.name
	go names.warm() // nobody waits for it but the first trace
	owners := newLiveOwnerNames()
	err = r.connect(r.kernel.objects.Ring(), func(recorder *recording.Writer) pipelineNames {
		return pipelineNames{
			names:      recordedNames(names, recorder),
			skbFields:  r.skbFields,
			ownerNames: recordedOwnerNames(owners, recorder),
			noteOwner:  owners.note,
		}
	})
	if err != nil {
		return err
	}
	r.capture.objects = r.kernel.objects
	r.capture.look = r.look
	if limit := r.settings.maxEvents; limit > 0 {
		r.shedding = newShedding(limit, r.kernel.objects, names.Function, r.clock.MonoNs(), r.logger)
		r.pipeline.budget = r.shedding.budget
	}
	return r.watch(r.cost)
}

// look is capture's.
func (r *packetsRun) look() error {
	// What was read late is judged by when it happened.
	if err := r.shedding.look(r.capture.presentMonoNs); err != nil {
		return err
	}
	if err := r.watchdog.look(r.clock.MonoNs()); err != nil {
		return err
	}
	if r.shared != nil {
		return r.shared.beside()
	}
	return nil
}

// cost is the watchdog's.
func (r *packetsRun) cost() (guard.Cost, error) {
	counters, err := r.kernel.objects.Counters()
	if err != nil {
		return guard.Cost{}, err
	}
	cpuNs, err := cpuTime(r.kernel.objects.RunTime)
	return guard.Cost{CPUNs: cpuNs, Seen: r.pipeline.records, Lost: counters.Lost()}, err
}

// recordedNames wraps names so that the recording holds each answer.
func recordedNames(names spans.Names, recorder *recording.Writer) spans.Names {
	if recorder == nil {
		return names
	}
	return recording.NewRecordedNames(names, recorder)
}

// abort releases what a failed start leaves. What goes wrong with it matters
// less than the error of start.
func (r *packetsRun) abort() {
	_ = r.programs.close()
	_ = r.applications.close()
	if r.kernel != nil {
		_ = r.kernel.attachment.Close()
	}
	r.session.abort()
	if r.kernel != nil {
		r.own.forget(r.kernel.objects)
		_ = r.kernel.objects.Close()
	}
}

// finish detaches and lets nothing get lost that was promised. err is what
// ended the tracing.
func (r *packetsRun) finish(err error) error {
	live, tracked := r.stillTracked()
	missed := r.kernel.attachment.Missed() // detached links can't be asked
	programMisses, missesErr := r.programs.misses()
	missed += programMisses
	drained := errors.Join(missesErr, r.drain(func() error {
		return errors.Join(r.applications.close(), r.programs.close(), r.kernel.attachment.Close())
	}))
	r.capture.closeAll()
	summary := r.summary(live, tracked, missed)
	r.applications.summarize(&summary, r.kernel.objects)
	return r.close(&summary, func() error {
		r.own.forget(r.kernel.objects)
		return r.kernel.objects.Close()
	}, err, drained)
}
