package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// The values of --correlate.
const (
	correlateOff  = "off"
	correlateLink = "link"
	// correlateChild adds summaries to correlateLink.
	correlateChild = "child"
	// correlateFull adds the traces themselves to correlateChild.
	correlateFull = "full"
)

// registerCorrelate adds --correlate.
func registerCorrelate(flags *pflag.FlagSet, correlate *string) {
	flags.StringVar(correlate, "correlate", correlateLink, "how to show which span of an application caused something: link (a link to it, and its ids), child (a summary in its own trace as well), full (the kernel's spans below that as well, up to a bound), or off")
}

// checkCorrelate finds the user's mistakes.
func (s *outputSettings) checkCorrelate() error {
	switch s.correlate {
	case correlateLink, correlateChild, correlateFull:
		return nil
	case correlateOff:
		if s.only.correlated {
			return errors.New("read --only: with --correlate=off no trace is correlated; leave one of the two out")
		}
		return nil
	}
	return fmt.Errorf("read --correlate: %q is none of link, child, full, off", s.correlate)
}

// registerNoPayload adds --no-payload, which is about packets only.
func registerNoPayload(flags *pflag.FlagSet, noPayload *bool) {
	flags.BoolVar(noPayload, "no-payload", false, "do not look into requests, nor at TCP options, for the span of an application that they name (traceparent): what comes over a network can name any")
}

// checkNoPayload refuses what would do nothing.
func (s *packetsSettings) checkNoPayload() error {
	if s.noPayload && s.output.correlate == correlateOff {
		return errors.New("read --no-payload: with --correlate=off nothing is looked for; leave one of the two out")
	}
	return nil
}

// openContexts opens the map in which applications' spans are published, nil
// without. That it is not to be had is no reason not to trace.
func openContexts(correlate string, logger *slog.Logger) *ebpf.Map {
	if correlate == correlateOff {
		return nil
	}
	contexts, err := bpf.OpenContexts(bpf.ContextsDir)
	switch {
	case errors.Is(err, bpf.ErrNoBPFFS):
		logger.Info("spans of applications are not known: mount a BPF file system at /sys/fs/bpf, or use --correlate=off", "why", err)
	case err != nil:
		logger.Info("spans of applications are not known", "why", err)
	}
	return contexts
}
