package main

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// newFunctions builds the command functions.
func newFunctions(sys system) *cobra.Command {
	backend := "auto"
	var nonSkb nonSkbFlags
	cmd := &cobra.Command{
		Use:   "functions [flags] [RE2]",
		Short: "List the kernel functions that would be probed, and why others are not",
		Long: "Lists the kernel functions that would be probed, with module and argument, and why\n" +
			"others would not. An RE2 expression has to match the whole name, as --filter-func does.\n" + exitHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageErrorf("functions takes one expression, not %d: quote it", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return listFunctions(sys, backend, nonSkb, args)
		},
	}
	cmd.Flags().StringVar(&backend, "backend", backend, "as the backend auto, session, multi or kprobe would")
	nonSkb.register(cmd.Flags())
	return cmd
}

func listFunctions(sys system, backend string, nonSkb nonSkbFlags, args []string) error {
	var (
		pattern *regexp.Regexp
		text    string
		err     error
	)
	if len(args) == 1 {
		text = args[0]
		if pattern, err = probe.CompilePattern(text); err != nil {
			return usageError(err)
		}
	}
	callees, err := nonSkb.settings(false)
	if err != nil {
		return usageError(err)
	}
	if backend, err = backendOf(backend); err != nil {
		return err
	}
	tracefs, err := kernel.TracefsDir()
	if err != nil {
		return err
	}
	selection, err := probe.Select(probe.SystemSources(tracefs), probe.Options{
		Pattern: pattern, NonSkb: callees.pattern, Backend: backend,
	})
	if err != nil {
		return err
	}
	if err := readerGone(probe.WriteTable(sys.stdout, selection)); err != nil {
		return err
	}
	if err := selection.UsableCallees(callees.text, backend); err != nil {
		return usageError(fmt.Errorf("read --non-skb-funcs: %w", err))
	}
	return usageError(selection.Usable(text))
}

// backendOf is the name of the backend that packets would take for --backend.
func backendOf(name string) (string, error) {
	if name != "auto" {
		if _, err := probe.ParseBackend(name); err != nil {
			return "", usageErrorf("read --backend: %w", err)
		}
		return name, nil
	}
	findings := kernel.Check()
	if err := kernel.CannotTrace(findings); err != nil {
		return "", err
	}
	name, _ = kernel.ChooseBackend(findings)
	return name, nil
}
