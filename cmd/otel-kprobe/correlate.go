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
)

// registerCorrelate adds --correlate, which packets and block share.
func registerCorrelate(flags *pflag.FlagSet, correlate *string) {
	flags.StringVar(correlate, "correlate", correlateLink, "how to show which span of an application caused something: link (a link to it, and its ids), or off")
}

// checkCorrelate finds the user's mistakes.
func checkCorrelate(correlate string) error {
	if correlate != correlateOff && correlate != correlateLink {
		return fmt.Errorf("read --correlate: %q is neither link nor off", correlate)
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
