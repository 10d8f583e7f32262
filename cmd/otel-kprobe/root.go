package main

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const exitHelp = `
Exit status:
  0  all is well
  1  it failed while it ran
  2  it was called wrongly
  3  this kernel, or this process's rights, do not allow tracing
  4  spans or histograms were lost on their way out (the summary says how many)
  5  it detached by itself: tracing passed the limit of --max-cpu or --max-loss
`

// newRoot builds the command tree.
func newRoot(sys system, logger *slog.Logger) *cobra.Command {
	root := &cobra.Command{
		Use:   "otel-kprobe",
		Short: "See packets and block requests in the Linux kernel as OpenTelemetry traces",
		Long: "otel-kprobe shows each packet's way through the Linux kernel as a trace: one span\n" +
			"for each kernel function, nested as the calls were. And each block request, from its\n" +
			"issue to its completion, with the requests that it caused on the devices below.\n" + exitHelp,
		Version:                    version(),
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       cobra.ArbitraryArgs,
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return refuseEmpty(cmd) },
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				_ = showHelp(cmd) // to stdout, which has nowhere to report to
				return &silentError{exitUsage}
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("otel-kprobe {{.Version}}\n")
	root.SetHelpCommand(newHelp())
	root.AddCommand(newCompletion(sys))
	root.AddCommand(
		newPackets(sys, logger),
		newBlock(sys, logger),
		newRun(sys, logger),
		newCheck(sys),
		newFunctions(sys),
		newReplay(sys, logger),
	)
	return root
}

// flagError names the command that knows the right flags.
func flagError(cmd *cobra.Command, err error) error {
	return usageErrorf("%s: see '%s --help'", err, cmd.CommandPath())
}

// unknownCommand suggests what may have been meant.
func unknownCommand(root *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	if near := root.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf(", did you mean %s", strings.Join(near, " or "))
	}
	return usageError(errors.New(text + ": see 'otel-kprobe --help'"))
}

// newHelp builds the command help, which cobra's own lets succeed for commands
// that there are not.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if len(args) == 0 {
				return showHelp(root)
			}
			for _, child := range root.Commands() {
				if child.Name() == args[0] {
					return showHelp(child)
				}
			}
			return unknownCommand(root, args[0])
		},
	}
}

// showHelp is --help of a command; cobra adds these flags when it runs one.
func showHelp(cmd *cobra.Command) error {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	return cmd.Help()
}

// refuseEmpty refuses flags with an empty value: they come from variables of a
// script that were not set, and would do nothing.
func refuseEmpty(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if value := flag.Value.String(); flag.Name != "otlp" && (value == "" || value == "[]") {
			err = usageErrorf("read --%s: it is empty", flag.Name)
		}
	})
	return err
}

// version is the module's version, or the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return "devel-" + setting.Value[:12]
		}
	}
	return "devel"
}
