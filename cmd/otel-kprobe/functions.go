package main

import (
	"cmp"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// newFunctions builds the command functions.
func newFunctions(sys system) *cobra.Command {
	var f functionsFlags
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
			return listFunctions(sys, f, args)
		},
	}
	cmd.Flags().StringVar(&f.backend, "backend", "auto", "as the backend auto, session, multi or kprobe would")
	f.modules.register(cmd.Flags())
	f.nonSkb.register(cmd.Flags())
	registerKernelBTF(cmd.Flags(), &f.kernelBTF)
	return cmd
}

// functionsFlags are the flags of functions as they were given.
type functionsFlags struct {
	backend   string
	modules   modulesFlag
	nonSkb    nonSkbFlags
	kernelBTF string
}

func listFunctions(sys system, f functionsFlags, args []string) error {
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
	modules, err := f.modules.parse()
	if err := cmp.Or(err, checkKernelBTF(f.kernelBTF)); err != nil {
		return usageError(err)
	}
	callees, err := f.nonSkb.settings(false)
	if err != nil {
		return usageError(err)
	}
	backend, err := backendOf(f.backend, f.kernelBTF)
	if err != nil {
		return err
	}
	tracefs, err := kernel.TracefsDir()
	if err != nil {
		return err
	}
	sources := probe.SystemSources(tracefs)
	sources.Vmlinux = f.kernelBTF
	selection, err := probe.Select(sources, probe.Options{
		Pattern: pattern, Modules: modules, NonSkb: callees.pattern, Backend: backend,
	})
	if err != nil {
		return err
	}
	if err := readerGone(probe.WriteTable(sys.stdout, selection)); err != nil {
		return err
	}
	if err := selection.HasModules(modules, text); err != nil {
		return usageError(err)
	}
	if err := selection.UsableCallees(callees.text, backend); err != nil {
		return usageError(fmt.Errorf("read --non-skb-funcs: %w", err))
	}
	return usageError(selection.Usable(text))
}

// backendOf is the name of the backend that packets would take for --backend.
func backendOf(name, kernelBTF string) (string, error) {
	if name != "auto" {
		if _, err := probe.ParseBackend(name); err != nil {
			return "", usageErrorf("read --backend: %w", err)
		}
		return name, nil
	}
	findings := kernel.CheckWith(kernelBTF)
	if err := kernel.CannotTrace(findings); err != nil {
		return "", err
	}
	name, _ = kernel.ChooseBackend(findings)
	return name, nil
}
