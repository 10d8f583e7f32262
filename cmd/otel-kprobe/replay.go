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
	flags.registerDescribe(cmd.Flags())
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
		return usageError(err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	header := reader.Header()
	seed := header.Seed
	if r.seed != nil {
		seed = *r.seed
	}
	out, err := r.open(ctx, recordedHost(header), seed)
	if err != nil {
		return err
	}
	p := newPipeline(pipelineOptions{
		pipelineNames: pipelineNames{
			names:           reader.Names(),
			blockNames:      reader.Names(),
			ownerNames:      reader.Names(),
			statusBefore610: statusBefore610(header.KernelRelease),
			skbFields:       header.SkbFields,
		},
		clock:        reader.Names(),
		sample:       header.SampleThreshold,
		seed:         seed,
		rawAddresses: r.output.rawAddresses,
		describe:     r.output.describe,
		tracker:      header.Tracker,
		block:        header.Block,
		only:         r.output.only,
		correlate:    r.output.correlate,
		limit:        r.limit,
		exporters:    out.exporters,
	})
	kernelLost, err := r.feed(ctx, out, reader, p)
	return r.finish(out, p, kernelLost, err)
}

// open opens the outputs; the recording itself must not be one of them.
func (r *replay) open(ctx context.Context, h host, seed [16]byte) (*outputs, error) {
	var c claims
	if err := c.protect("the recording", r.path); err != nil {
		return nil, err
	}
	file, err := c.open("--output", r.output.path, 0o644)
	if err != nil {
		return nil, err
	}
	out, err := openOutputs(ctx, outputOptions{
		settings: r.output,
		host:     h,
		instance: hex.EncodeToString(seed[:]),
		file:     file,
		wait:     true,
	}, r.sys, r.logger)
	if err != nil {
		c.abandon()
		return nil, err
	}
	if err := c.begin(); err != nil {
		out.discard()
		return nil, err
	}
	return out, nil
}

// feed gives the recorded calls to the pipeline in their order. kernelLost is
// what the kernel side lost when the recording was made.
func (r *replay) feed(ctx context.Context, out *outputs, reader *recording.Reader, p *pipeline) (kernelLost map[string]uint64, err error) {
	wanted, cancel := out.untilUnwanted(ctx)
	defer cancel()
	defer p.closeSummaries() // a limit ends it before the recording does
	var last uint64
	for wanted.Err() == nil && !p.reached() {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return kernelLost, nil
		}
		if err != nil {
			p.closeAll(last) // what was read before is good
			return kernelLost, fmt.Errorf("read recording %s: %w", r.path, err)
		}
		switch entry.Kind {
		case recording.KindRecord:
			p.record(entry.Record)
		case recording.KindTick:
			last = entry.MonoNs
			p.advance(entry.MonoNs)
		case recording.KindClose:
			p.closeAll(entry.MonoNs)
		case recording.KindCounters:
			kernelLost = entry.Counters
		}
	}
	if ctx.Err() != nil {
		return kernelLost, fmt.Errorf("interrupted: recording %s was not read to its end", r.path)
	}
	return kernelLost, nil
}

func (r *replay) finish(out *outputs, p *pipeline, kernelLost map[string]uint64, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	lost, closeErr := out.shutdown(ctx)
	summary := p.summary()
	summary.KernelLost = map[string]uint64{damagedRecords: p.damaged}
	for name, count := range kernelLost {
		if name != damagedRecords { // they have just been counted again
			summary.KernelLost[name] = count
		}
	}
	summary.Exporters = out.summaries()
	fmt.Fprintln(r.sys.stderr, summary.String())
	if err := errors.Join(err, closeErr); err != nil {
		return errors.Join(err, lost)
	}
	return verdict(&summary, lost)
}
