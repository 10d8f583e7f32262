package main

import (
	"log/slog"

	"github.com/spf13/cobra"
)

const blockLong = `Follows block requests from their issue to their completion, shows each as a trace
with the requests that it caused on the devices below, and counts latencies.

Latencies are counted from issue to completion. The histogram goes to the terminal
at the end, and with --interval meanwhile (with --format json to standard error);
to an OTLP receiver it goes as the metric otel_kprobe.block.request.duration.

SIGINT (Ctrl-C) or SIGTERM ends it without losing anything; a second one ends it at
once. When every device that --device names has gone, it ends with status 1.

Environment: as of 'otel-kprobe packets', and OTEL_METRICS_EXPORTER (otlp, none).
` + exitHelp

const blockExample = `  otel-kprobe block --duration 10s --histogram-only
  otel-kprobe block --device nvme0n1 --op read,write --min-latency 10ms
  otel-kprobe block --histogram-only --by process --interval 1s
  otel-kprobe block --otlp --cgroup /system.slice/postgresql.service`

// newBlock builds the command block.
func newBlock(sys system, logger *slog.Logger) *cobra.Command {
	var f blockFlags
	cmd := &cobra.Command{
		Use:     "block [flags]",
		Short:   "Follow block requests, and count their latencies",
		Long:    blockLong,
		Example: blockExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := f.settings(sys.getenv)
			if err != nil {
				return usageError(err)
			}
			return runBlock(cmd.Context(), settings, sys, logger)
		},
	}
	f.register(cmd.Flags())
	return cmd
}
