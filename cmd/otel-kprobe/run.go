package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const serviceLong = `Traces packets and block requests together, as a service, as a file says.

The file is YAML; deploy/otel-kprobe.yaml has every key with its default. ${NAME} and
${NAME:-DEFAULT} in a value stand for variables of the environment, $$ for a dollar
sign. Both sections send through the same exporters.

SIGHUP reads the file again. The keys of packets (but not enabled) and block.only take
effect; packets that began under the old filter are followed to their end. A file that
is wrong, or that changes something else, changes nothing and is logged.

SIGINT (Ctrl-C) or SIGTERM ends it without losing anything; a second one ends it at
once.

Environment: as of 'otel-kprobe packets' and 'otel-kprobe block'; the file comes first.
` + exitHelp

const serviceExample = `  otel-kprobe run --config /etc/otel-kprobe.yaml
  otel-kprobe run --config otel-kprobe.yaml --check-config`

// serviceFlags are the flags of run.
type serviceFlags struct {
	config      string
	check       bool
	duration    time.Duration
	readyFile   string
	summaryFile string
}

// newRun builds the command run.
func newRun(sys system, logger *slog.Logger) *cobra.Command {
	var f serviceFlags
	cmd := &cobra.Command{
		Use:     "run --config FILE [flags]",
		Short:   "Trace packets and block requests together, as a service",
		Long:    serviceLong,
		Example: serviceExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.config == "":
				return usageErrorf("name the configuration: --config FILE")
			case f.duration < 0:
				return usageErrorf("read --duration: %v is negative", f.duration)
			}
			config, err := readServiceConfig(f.config, sys.getenv)
			if err != nil {
				return usageError(err)
			}
			if f.check {
				_, err := fmt.Fprintf(sys.stdout, "%s is right: %s\n", f.config, config)
				return readerGone(err)
			}
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			return newService(f, config, sys, logger).serve(cmd.Context(), hangups)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "the configuration, a `FILE` of YAML")
	flags.BoolVar(&f.check, "check-config", false, "check the file, filters included, and end: status 0 or 2; needs no rights")
	flags.DurationVar(&f.duration, "duration", 0, "stop after this long (default: at SIGINT or SIGTERM)")
	flags.StringVar(&f.readyFile, "ready-file", "", "create this `FILE` once all probes are attached")
	flags.StringVar(&f.summaryFile, "summary-file", "", "write the closing summary to this `FILE` as JSON")
	return cmd
}
