package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

const replayLong = `Turns a recording ('packets --record FILE') into spans again, on any machine and
without privilege. The same recording and seed give the same spans, byte for byte;
the seed of the recording itself is the default.
` + exitHelp

// newReplay builds the command replay.
func newReplay(sys system, logger *slog.Logger) *cobra.Command {
	var (
		flags outputFlags
		seed  string
		limit uint64
	)
	cmd := &cobra.Command{
		Use:   "replay [flags] FILE",
		Short: "Turn a recording into spans again",
		Long:  replayLong,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("replay takes one file, not %d: see 'otel-kprobe replay --help'", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := flags.settings(sys.getenv)
			if err != nil {
				return usageError(err)
			}
			r := replay{path: args[0], output: settings, limit: limit, sys: sys, logger: logger}
			if r.seed, err = parseSeed(seed); err != nil {
				return usageError(err)
			}
			return r.run(cmd.Context())
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&seed, "seed", "", "make the ids from this seed, up to 32 `HEX` digits, instead of the recording's")
	cmd.Flags().Uint64Var(&limit, "limit-traces", 0, "stop after this many traces (default: no limit)")
	return cmd
}

// parseSeed reads up to 16 bytes in hex; nil without any.
func parseSeed(text string) (*[16]byte, error) {
	if text == "" {
		return nil, nil
	}
	digits := text
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	raw, err := hex.DecodeString(strings.ToLower(digits))
	if err != nil || len(raw) > 16 {
		return nil, fmt.Errorf("read --seed: %q is not up to 32 hexadecimal digits", text)
	}
	var seed [16]byte
	copy(seed[16-len(raw):], raw)
	return &seed, nil
}

// replay is one run of the command replay.
type replay struct {
	path   string
	output outputSettings
	seed   *[16]byte // nil: the recording's
	limit  uint64
	sys    system
	logger *slog.Logger
}

func (r *replay) run(ctx context.Context) (err error) {
	reader, err := recording.Open(r.path)
	if err != nil {
		return usageErrorf("read recording %s: %w", r.path, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	header := reader.Header()
	seed := header.Seed
	if r.seed != nil {
		seed = *r.seed
	}
	out, err := openOutputs(ctx, outputOptions{
		settings: r.output,
		instance: hex.EncodeToString(seed[:]),
		wait:     true,
	}, r.sys, r.logger)
	if err != nil {
		return err
	}
	p := newPipeline(pipelineOptions{
		names:        reader.Names(),
		clock:        reader.Names(),
		seed:         seed,
		rawAddresses: r.output.rawAddresses,
		tracker:      header.Tracker,
		limit:        r.limit,
		exporters:    out.exporters,
	})
	return r.finish(out, p, r.feed(ctx, reader, p))
}

// feed gives the recorded calls to the pipeline in their order.
func (r *replay) feed(ctx context.Context, reader *recording.Reader, p *pipeline) error {
	var last uint64
	for ctx.Err() == nil && !p.reached() {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			p.tracker.CloseAll(last) // what was read before is good
			return fmt.Errorf("read recording %s: %w", r.path, err)
		}
		switch entry.Kind {
		case recording.KindRecord:
			p.record(entry.Record)
		case recording.KindTick:
			last = entry.MonoNs
			p.tracker.Advance(entry.MonoNs)
		case recording.KindClose:
			p.tracker.CloseAll(entry.MonoNs)
		}
	}
	return ctx.Err()
}

func (r *replay) finish(out *outputs, p *pipeline, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	shutdownErr := p.shutdown(ctx)
	summary := export.Summary{
		Frames:  p.frames,
		Traces:  p.traces,
		Spans:   p.spans,
		Tracker: export.NewTrackerSummary(p.tracker.Stats()),
	}
	for _, e := range p.exporters {
		summary.Exporters = append(summary.Exporters, export.NewExporterSummary(e.name, e.Stats()))
	}
	fmt.Fprintln(r.sys.stderr, summary.String())
	if err := errors.Join(err, out.close(ctx)); err != nil {
		return errors.Join(err, shutdownErr)
	}
	return out.verdict(&summary, shutdownErr)
}
