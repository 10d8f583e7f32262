package main

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// nonSkbFlags choose functions that take no skb.
type nonSkbFlags struct{ expr string }

func (f *nonSkbFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.expr, "non-skb-funcs", "", "also probe the functions without an skb whose whole name matches this `RE2` expression, where they run within one on the packet")
}

// nonSkbSettings are the flags, checked. The zero value chooses none.
type nonSkbSettings struct {
	pattern *regexp.Regexp
	text    string
}

func (f *nonSkbFlags) settings(entryOnly bool) (nonSkbSettings, error) {
	if f.expr == "" {
		return nonSkbSettings{}, nil
	}
	if entryOnly {
		return nonSkbSettings{}, errors.New("read --non-skb-funcs: what runs within a function cannot be told without its return: leave --entry-only away")
	}
	pattern, err := probe.CompilePattern(f.expr)
	if err != nil {
		return nonSkbSettings{}, fmt.Errorf("read --non-skb-funcs: %w", err)
	}
	return nonSkbSettings{pattern, f.expr}, nil
}
