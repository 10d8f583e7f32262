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
)

// registerCorrelate adds --correlate.
func registerCorrelate(flags *pflag.FlagSet, correlate *string) {
	flags.StringVar(correlate, "correlate", correlateLink, "how to show which span of an application caused something: link (a link to it, and its ids), child (a summary in its own trace as well), or off")
}

// checkCorrelate finds the user's mistakes.
func (s *outputSettings) checkCorrelate() error {
	switch s.correlate {
	case correlateLink, correlateChild:
		return nil
	case correlateOff:
		if s.only.correlated {
			return errors.New("read --only: with --correlate=off no trace is correlated; leave one of the two out")
		}
		return nil
	}
	return fmt.Errorf("read --correlate: %q is none of link, child, off", s.correlate)
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
