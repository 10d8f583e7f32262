package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// outputs are the exporters of one run and what must be closed after them.
type outputs struct {
	exporters []namedExporter
	target    string          // what messages call the OTLP endpoint
	client    *otlpClient     // nil without otlp
	console   *export.Console // nil without console
	file      *os.File        // nil without file
}

// outputOptions say what the exporters are made of.
type outputOptions struct {
	settings outputSettings
	host     host
	instance string   // service.instance.id
	file     *os.File // of --output, nil without it; it is closed with the outputs
	dial     dialer   // nil: the usual one
	wait     bool     // rather wait than drop: a replay can
}

// openOutputs makes the exporters. On error nothing of them is left but o.file.
func openOutputs(ctx context.Context, o outputOptions, sys system, logger *slog.Logger) (_ *outputs, err error) {
	out := &outputs{file: o.file}
	defer func() {
		if err != nil {
			out.discard()
		}
	}()
	newEnvelope := spans.NewEnvelope
	if o.settings.perLayer {
		newEnvelope = spans.NewLayeredEnvelope
	}
	envelope := newEnvelope(newResource(ctx, o.host, o.instance, logger), scope())
	if o.file != nil {
		exporter, err := export.NewFile(o.file, export.FileOptions{Envelope: envelope, Log: logger, Wait: o.wait})
		if err != nil {
			return nil, err
		}
		out.add(exporterFile, exporter)
	}
	if o.settings.otlp {
		if err := out.openOTLP(ctx, o, envelope, sys, logger); err != nil {
			return nil, err
		}
	}
	if o.settings.console {
		out.openConsole(o.settings, sys)
	}
	switch {
	case o.settings.disabled:
		logger.Warn("OTEL_SDK_DISABLED is true: no spans are sent by OTLP")
	case len(out.exporters) == 0 && !o.settings.noSpans:
		logger.Warn("OTEL_TRACES_EXPORTER is none: spans go nowhere")
	}
	return out, nil
}

func (out *outputs) add(name string, exporter export.Exporter) {
	out.exporters = append(out.exporters, namedExporter{name, exporter})
}

func (out *outputs) openOTLP(ctx context.Context, o outputOptions, envelope *spans.Envelope, sys system, logger *slog.Logger) error {
	out.target = endpointName(o.settings.endpoint, sys.getenv)
	logger = logger.With("endpoint", out.target)
	client, err := newOTLPClient(ctx, o.settings.endpoint, sys.getenv, o.dial, logger)
	if err != nil {
		return err
	}
	out.client = client
	exporter, err := export.NewOTLP(export.OTLPOptions{
		Envelope: envelope,
		Upload:   client.upload,
		Wait:     o.wait,
		Log:      logger,
	})
	if err != nil {
		return usageError(err) // the resource of the environment is too large
	}
	out.add(exporterOTLP, exporter)
	return nil
}

func (out *outputs) openConsole(s outputSettings, sys system) {
	options := terminalOptions(sys.stdout, sys.getenv)
	options.Format = s.format
	out.console = export.NewConsole(sys.stdout, options)
	out.add(exporterConsole, out.console)
}

// terminalOptions are those of w, when it is a file that may be a terminal.
func terminalOptions(w any, getenv func(string) string) export.ConsoleOptions {
	if file, ok := w.(*os.File); ok {
		return export.TerminalOptions(file, getenv)
	}
	return export.ConsoleOptions{}
}

// unwanted is closed when there is nobody left to write to: the console is all
// there is, and it can't be written.
func (out *outputs) unwanted() <-chan struct{} {
	if out.console != nil && len(out.exporters) == 1 {
		return out.console.Broken()
	}
	return nil
}

// untilUnwanted gives a context that also ends when the outputs are unwanted.
func (out *outputs) untilUnwanted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if unwanted := out.unwanted(); unwanted != nil {
		go func() {
			select {
			case <-unwanted:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// shutdown writes out what the exporters still hold, as long as ctx lasts, and
// releases what they used. lost tells of spans that were lost or could not be
// written, err of other failures.
func (out *outputs) shutdown(ctx context.Context) (lost, err error) {
	var losses []error
	for _, e := range out.exporters {
		err := e.Shutdown(ctx)
		if e.name == exporterOTLP {
			err = out.otlpLoss(e.Stats(), err)
		}
		losses = append(losses, err)
	}
	if out.client != nil {
		err = out.client.close(ctx)
	}
	if out.file != nil {
		if closeErr := out.file.Close(); closeErr != nil {
			losses = append(losses, fmt.Errorf("close the file of --output: %w", closeErr))
		}
	}
	return errors.Join(losses...), err
}

// discard ends exporters that got no spans. The file stays open.
func (out *outputs) discard() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	out.file = nil
	_, _ = out.shutdown(ctx) // there was nothing to lose
}

// summaries give what became of the spans.
func (out *outputs) summaries() []export.ExporterSummary {
	all := make([]export.ExporterSummary, 0, len(out.exporters))
	for _, e := range out.exporters {
		s := export.NewExporterSummary(e.name, e.Stats())
		if e.name == exporterConsole && out.console.ReaderGone() {
			s.Unread, s.Failed = s.Failed, 0
		}
		all = append(all, s)
	}
	return all
}

// verdict says of a run that has ended what its exporters lost, if they did,
// and why.
func verdict(s *export.Summary, failure error) error {
	lost := s.ExportLost()
	switch {
	case failure != nil && lost > 0:
		return &statusError{exitLostSpans, fmt.Errorf("lost %d spans on their way out: %w", lost, failure)}
	case failure != nil:
		return &statusError{exitLostSpans, fmt.Errorf("spans may be lost: %w", failure)}
	case lost > 0:
		return &statusError{exitLostSpans, fmt.Errorf("lost %d spans on their way out", lost)}
	case s.HistogramsUnsent > 0:
		return &statusError{exitLostSpans, errors.New("the latency histograms of the whole run did not reach the OTLP endpoint: check its address and that it runs")}
	}
	return nil
}

// otlpLoss is why the receiver did not get all spans: rather what it said than
// that the time was over in the end. Nothing lost leaves err as it is.
func (out *outputs) otlpLoss(stats export.Stats, err error) error {
	if stats.Lost() == 0 {
		return err
	}
	cause := out.client.lastFailure()
	switch {
	case cause == nil && err == nil:
		cause = errors.New("it is slower than the packets come")
	case cause == nil:
		cause = err
	}
	return fmt.Errorf("OTLP receiver %s: %w", out.target, cause)
}

// newInstance gives a random service.instance.id, which is also the seed of
// the run's ids.
func newInstance() (string, [16]byte, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", id, fmt.Errorf("make a random id: %w", err)
	}
	return hex.EncodeToString(id[:]), id, nil
}
