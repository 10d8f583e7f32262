package main

import (
	"log/slog"

	"github.com/spf13/cobra"
)

const packetsLong = `Follows packets through the kernel and shows each one's way as a trace.

The filter is a pcap-filter(7) expression, as tcpdump takes it; without one every
packet is followed. Spans go where --exporter says: by default to an OTLP endpoint
when --otlp or OTEL_EXPORTER_OTLP_ENDPOINT names one, else to the terminal.

SIGINT (Ctrl-C) or SIGTERM ends it without losing anything; a second one ends it at
once.

Environment: every OTEL_EXPORTER_OTLP_* of the OTLP/gRPC exporter, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_EXPORTER (otlp, console, none), OTEL_SDK_DISABLED,
NO_COLOR.
` + exitHelp

const packetsExample = `  otel-kprobe packets 'host 8.8.8.8'
  otel-kprobe packets --otlp 'tcp port 443'
  otel-kprobe packets --otlp=https://collector:4317 --exporter otlp,file --output spans.jsonl icmp
  otel-kprobe packets --format lines --filter-ifname eth0 --filter-func '(ip|tcp)_.*'`

// newPackets builds the command packets.
func newPackets(sys system, logger *slog.Logger) *cobra.Command {
	var f packetsFlags
	cmd := &cobra.Command{
		Use:     "packets [flags] [pcap-filter]",
		Short:   "Follow packets through the kernel",
		Long:    packetsLong,
		Example: packetsExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := f.settings(args, sys.getenv)
			if err != nil {
				return usageError(err)
			}
			return runPackets(cmd.Context(), settings, sys, logger)
		},
	}
	f.register(cmd.Flags())
	return cmd
}
