package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

const (
	// metricsEvery is how often metrics are sent unless --interval says otherwise.
	metricsEvery = 10 * time.Second
	// redrawEvery is how often the histogram on a terminal is drawn anew.
	redrawEvery = time.Second
	// devicesEvery is how often named devices are looked for.
	devicesEvery = time.Second
	// idleWait is how long a run without records sleeps.
	idleWait = 100 * time.Millisecond
)

// blockRun is one run of the command block.
type blockRun struct {
	session
	settings  blockSettings
	kernel    *attachedBlock
	latencies *latencies
	live      *export.Live
	metrics   *latencyMetrics                // nil: none are sent
	sending   atomic.Bool                    // metrics are on their way
	sends     sync.WaitGroup                 // what sends them
	returned  atomic.Pointer[[]latencyPoint] // what did not arrive
	redraws   bool                           // the histogram on the terminal

	shows, posts, looks schedule

	// applications are nil when nothing is to be correlated.
	applications *applicationProbes
}

// runBlock traces until ctx ends, the duration is over, the limit is reached or
// all the devices have gone.
func runBlock(ctx context.Context, s blockSettings, sys system, logger *slog.Logger) error {
	r := &blockRun{
		session:  session{run: s.run, output: s.outputs(), sys: sys, logger: logger},
		settings: s,
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	err := announce(s.run.readyFile)
	if err == nil {
		err = r.follow(ctx)
	}
	return r.finish(err)
}

// outputs are the outputs that there is something for.
func (s *blockSettings) outputs() outputSettings {
	output := s.output
	if s.histogramOnly {
		output.console, output.noSpans = false, true
	}
	return output
}

// begin attaches and says so. On error nothing stays behind.
func (r *blockRun) begin(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		r.abort()
		return interrupted(ctx, err)
	}
	r.accompany()
	fmt.Fprintln(r.sys.stderr, export.ListeningBlock(r.settings.deviceNames, r.kernel.attachment.Attached(), r.kernel.took))
	return nil
}

// start opens the outputs, attaches and puts the parts together.
func (r *blockRun) start(ctx context.Context) (err error) {
	if err := r.open(ctx); err != nil {
		return err
	}
	if r.kernel, err = attachBlock(r.settings, r.logger); err != nil {
		return err
	}
	r.applications = newApplicationProbes(r.output.correlate, r.kernel.objects.Programs[bpf.ProgramApplicationStatement], r.logger)
	r.applications.start(ctx)
	r.sampleThreshold = r.settings.sample
	names := newLiveBlockNames(r.kernel.names)
	err = r.connect(r.kernel.objects.Ring(), func(recorder *recording.Writer) pipelineNames {
		return pipelineNames{
			blockNames:      recordedBlockNames(names, recorder),
			statusBefore610: statusBefore610(r.host.release),
		}
	})
	if err != nil {
		return err
	}
	r.latencies = newLatencies(r.settings.by, names)
	if r.kernel.inKernel {
		r.latencies.kernel = r.kernel.objects.Histograms
	}
	r.pipeline.observe = r.latencies.observe
	r.capture.look = r.look
	r.openLive()
	if err := r.watch(r.cost); err != nil {
		return err
	}
	return r.openMetrics(ctx)
}

// cost is the watchdog's.
func (r *blockRun) cost() (guard.Cost, error) {
	counters, err := r.kernel.objects.Counters()
	if err != nil {
		return guard.Cost{}, err
	}
	seen := r.pipeline.records
	if r.settings.histogramOnly { // they are read, and counted, in the kernel
		if err := r.latencies.update(); err != nil {
			return guard.Cost{}, err
		}
		seen = r.requests(0)
	}
	cpuNs, err := cpuTime(r.kernel.objects.RunTime)
	return guard.Cost{CPUNs: cpuNs, Seen: seen, Lost: counters.Lost()}, err
}

// openLive chooses where the histogram goes: to standard output, unless that is
// for JSON.
func (r *blockRun) openLive() {
	w := r.sys.stdout
	if r.output.console && r.output.format == export.FormatJSON {
		w = r.sys.stderr
	}
	options := terminalOptions(w, r.sys.getenv)
	r.redraws = r.settings.histogramOnly && options.Height != nil
	r.live = export.NewLive(w, options, r.redraws)
	r.shows = schedule{every: r.settings.interval, next: r.started.Add(r.settings.interval)}
	if r.redraws && r.settings.interval == 0 {
		r.shows = schedule{every: redrawEvery, next: r.started}
	}
	if len(r.settings.devices) > 0 {
		r.looks = schedule{every: devicesEvery, next: r.started.Add(devicesEvery)}
	}
}

// openMetrics prepares the sending of histograms to the OTLP endpoint, if there
// is one.
func (r *blockRun) openMetrics(ctx context.Context) (err error) {
	if r.out.client == nil {
		return nil
	}
	if r.shared != nil && r.shared.metrics == nil {
		return nil
	}
	r.metrics, err = newLatencyMetrics(ctx, latencyMetricsOptions{
		shared:   r.sharedMetrics(),
		endpoint: r.output.endpoint,
		getenv:   r.sys.getenv,
		// What is wrong with the environment has been said for the spans.
		resource: sdkResource(ctx, r.host, r.instance, slog.New(slog.DiscardHandler)),
		started:  r.started,
		logger:   r.logger,
	})
	every := r.settings.interval
	if every == 0 {
		every = metricsEvery
	}
	r.posts = schedule{every: every, next: r.started.Add(every)}
	return err
}

// follow reads until there is a reason to stop. Without records there is nothing
// to read.
func (r *blockRun) follow(ctx context.Context) error {
	if !r.settings.histogramOnly {
		return r.trace(ctx)
	}
	ctx, cancel := r.limited(ctx)
	defer cancel()
	ticks := time.NewTicker(idleWait)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
			if err := r.look(); err != nil {
				return err
			}
		}
	}
}

// look does what is due: show, send, see whether the devices are there, and what it
// costs.
func (r *blockRun) look() error {
	now := time.Now()
	if r.shows.due(now) {
		if err := r.show(now); err != nil {
			return err
		}
	}
	if r.posts.due(now) && r.metrics != nil {
		if err := r.latencies.update(); err != nil {
			return err
		}
		r.send(now)
	}
	if r.looks.due(now) && r.devicesGone() {
		return fmt.Errorf("follow %s: removed while it was traced: %w", strings.Join(r.settings.deviceNames, ", "), errDevicesGone)
	}
	if err := r.watchdog.look(r.clock.MonoNs()); err != nil {
		return err
	}
	if r.shared != nil {
		return r.shared.beside()
	}
	return nil
}

// show writes the histograms: on a terminal those of the whole run in place,
// elsewhere those of the interval one after the other.
func (r *blockRun) show(now time.Time) error {
	if err := r.latencies.update(); err != nil {
		return err
	}
	groups := r.latencies.nextInterval()
	if r.redraws {
		groups = r.latencies.named(r.latencies.whole)
	}
	return readerGone(r.live.Show(now, groups))
}

// send lets metrics go out without waiting for them. While the last ones are on
// their way the next are not sent: they are sums, so nothing is lost.
func (r *blockRun) send(now time.Time) {
	if !r.sending.CompareAndSwap(false, true) {
		return
	}
	points := r.points()
	r.sends.Go(func() {
		defer r.sending.Store(false)
		if r.metrics.send(context.Background(), now, points) != nil { // it has said so
			r.returned.Store(&points)
		}
	})
}

// points are those to send, with the exemplars of a send that failed.
func (r *blockRun) points() []latencyPoint {
	if returned := r.returned.Swap(nil); returned != nil {
		r.latencies.restore(*returned)
	}
	return r.latencies.points()
}

// devicesGone is true when none of the named devices is there any more.
func (r *blockRun) devicesGone() bool {
	for _, dev := range r.settings.devices {
		_, err := os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d", dev>>20, dev&(1<<20-1)))
		if !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return true
}

// abort releases what a failed start leaves.
func (r *blockRun) abort() {
	_ = r.applications.close()
	if r.kernel != nil {
		_ = r.kernel.attachment.Close()
	}
	r.session.abort()
	if r.kernel != nil {
		_ = r.kernel.objects.Close()
	}
}

// finish detaches, takes what is still in flight as unfinished, shows the
// histogram and lets nothing get lost that was promised. err is what ended the
// tracing.
func (r *blockRun) finish(err error) error {
	errs := []error{err, r.drain(func() error {
		return errors.Join(r.applications.close(), r.kernel.attachment.Close())
	})}
	inFlight, err := r.kernel.objects.InFlight()
	errs = append(errs, err)
	if !r.settings.histogramOnly {
		for _, raw := range inFlight {
			r.capture.take(raw)
		}
		r.capture.closeAll()
	}
	errs = append(errs, r.latencies.update())
	r.sends.Wait()
	unsent := r.sendLast()
	summary := r.summary(len(inFlight))
	summary.HistogramsUnsent = uint64(unsent)
	r.applications.summarize(&summary, r.kernel.objects)
	err = r.close(&summary, r.kernel.objects.Close, errs...)
	return errors.Join(err, readerGone(r.live.Finish(r.latencies.named(r.latencies.whole))))
}

// sendLast sends the sums of the whole run, and gives the number of histograms
// that did not arrive.
func (r *blockRun) sendLast() (unsent int) {
	if r.metrics == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	points := r.points()
	if err := r.metrics.send(ctx, time.Now(), points); err != nil { // it has said so
		unsent = len(points)
	}
	if err := r.metrics.close(ctx); err != nil {
		r.logger.Warn("the connection for metrics was not closed", "error", err)
	}
	return unsent
}

// summary says what the kernel side and the tracker came to.
func (r *blockRun) summary(inFlight int) export.Summary {
	counters, err := r.kernel.objects.Counters()
	if err != nil {
		r.logger.Warn("the summary lacks the kernel's counters", "error", err)
	}
	misses, err := r.kernel.objects.RecursionMisses()
	if err != nil {
		r.logger.Warn("the summary lacks the probes that recursion left out", "error", err)
	}
	s := r.pipeline.summary()
	s.Block = true
	s.Requests = r.requests(inFlight)
	s.RequestsSubmitted = counters.Submitted
	s.InFlight = uint64(inFlight)
	s.Unsampled = counters.Unsampled
	s.Attached = uint64(r.kernel.attachment.Attached())
	s.AttachNs = uint64(r.kernel.took)
	s.Histograms = export.NewHistogramSummaries(r.latencies.named(r.latencies.whole))
	s.HistogramSendsFailed = r.metrics.failedSends()
	r.watchdog.summarize(&s)
	s.KernelLost = map[string]uint64{
		"ring_full_requests": counters.RingFull,
		"requests_full":      counters.RequestsFull,
		"bios_full":          counters.BiosFull,
		"evicted_requests":   counters.Evicted,
		"histograms_full":    counters.HistogramsFull,
		"recursion_missed":   misses,
		damagedRecords:       r.pipeline.damaged,
	}
	return s
}

// requests is how many came through the ring, or were counted in the kernel.
// Those in flight were taken from the table in the end.
func (r *blockRun) requests(inFlight int) uint64 {
	if !r.settings.histogramOnly {
		return r.pipeline.came - uint64(inFlight)
	}
	sum := uint64(0)
	for _, k := range r.latencies.whole.All() {
		sum += k.Count
	}
	return sum
}
