package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// outputs are the exporters of one run and what must be closed after them.
type outputs struct {
	exporters []namedExporter
	client    *otlpClient     // nil without otlp
	console   *export.Console // nil without console
}

// outputOptions say what the exporters are made of.
type outputOptions struct {
	settings outputSettings
	instance string // service.instance.id
	dial     dialer // nil: the usual one
	wait     bool   // rather wait than drop: a replay can
}

// openOutputs makes the exporters. What can't be opened is the user's to mend.
func openOutputs(ctx context.Context, o outputOptions, sys system, logger *slog.Logger) (*outputs, error) {
	out := &outputs{}
	res, err := newResource(ctx, o.instance, logger)
	if err != nil {
		return nil, err
	}
	envelope := spans.NewEnvelope(res, scope())
	if o.settings.disabled {
		logger.Warn("OTEL_SDK_DISABLED is true: no spans are sent by OTLP")
	}
	if o.settings.file {
		if err := out.openFile(o.settings.path, o.wait, envelope, logger); err != nil {
			return nil, err
		}
	}
	if o.settings.otlp {
		if err := out.openOTLP(ctx, o, envelope, sys, logger); err != nil {
			return nil, err
		}
	}
	if o.settings.console {
		out.openConsole(o.settings, sys)
	}
	return out, nil
}

func (out *outputs) openFile(path string, wait bool, envelope *spans.Envelope, logger *slog.Logger) error {
	file, err := os.Create(path)
	if err != nil {
		return usageErrorf("create --output file: %w", err)
	}
	exporter, err := export.NewFile(file, export.FileOptions{Envelope: envelope, Log: logger, Wait: wait})
	if err != nil {
		return errors.Join(err, file.Close())
	}
	out.exporters = append(out.exporters, namedExporter{exporterFile, exporter})
	return nil
}

func (out *outputs) openOTLP(ctx context.Context, o outputOptions, envelope *spans.Envelope, sys system, logger *slog.Logger) error {
	client, err := newOTLPClient(ctx, o.settings.endpoint, sys.getenv, o.dial)
	if err != nil {
		return err
	}
	out.client = client
	target := endpointName(o.settings.endpoint, sys.getenv)
	exporter, err := export.NewOTLP(export.OTLPOptions{
		Envelope: envelope,
		Upload:   client.upload,
		Wait:     o.wait,
		Log:      logger.With("endpoint", target),
	})
	if err != nil {
		return err
	}
	out.exporters = append(out.exporters, namedExporter{exporterOTLP, exporter})
	return nil
}

func (out *outputs) openConsole(s outputSettings, sys system) {
	options := terminalOptions(sys.stdout, sys.getenv)
	options.Format = export.Format(s.format)
	console := export.NewConsole(sys.stdout, options)
	out.console = console
	out.exporters = append(out.exporters, namedExporter{exporterConsole, console})
}

// terminalOptions are those of w, when it is a file that may be a terminal.
func terminalOptions(w any, getenv func(string) string) export.ConsoleOptions {
	if file, ok := w.(*os.File); ok {
		return export.TerminalOptions(file, getenv)
	}
	return export.ConsoleOptions{Location: time.Local}
}

// verdict says of a run that has ended what its exporters lost, if they did. A
// console whose reader has gone (`| head`) lost nothing that anybody wanted.
func (out *outputs) verdict(s *export.Summary, err error) error {
	var lost uint64
	for _, e := range s.Exporters {
		if e.Name != exporterConsole || !out.console.ReaderGone() {
			lost += e.Lost()
		}
	}
	switch {
	case err != nil:
		return &statusError{exitLostSpans, fmt.Errorf("lost %d spans on their way out: %w", lost, err)}
	case lost > 0:
		return &statusError{exitLostSpans, fmt.Errorf("lost %d spans on their way out", lost)}
	}
	return nil
}

// close releases what the exporters used, after their Shutdown.
func (out *outputs) close(ctx context.Context) error {
	if out.client == nil {
		return nil
	}
	return out.client.close(ctx)
}

// warnUnreachable says at once, and not after the first time-out, when nothing
// listens at the endpoint. Tracing goes on: a collector may start later.
func warnUnreachable(ctx context.Context, endpoint string, getenv func(string) string, logger *slog.Logger) {
	target := endpointName(endpoint, getenv)
	if getenv("HTTPS_PROXY") != "" || getenv("https_proxy") != "" {
		return
	}
	if u, err := url.Parse("//" + target); err != nil || u.Port() == "" {
		return // the client knows more forms of targets than we do
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", target)
	if err != nil {
		logger.Warn("cannot reach the OTLP endpoint yet: start a collector there or name another with --otlp=ENDPOINT",
			"endpoint", target, "error", err)
		return
	}
	_ = conn.Close() // nothing was sent on it
}

// newInstance gives a random service.instance.id.
func newInstance() (string, [16]byte, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", id, fmt.Errorf("make a random id: %w", err)
	}
	return hex.EncodeToString(id[:]), id, nil
}
