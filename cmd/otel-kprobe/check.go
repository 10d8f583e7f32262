package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// newCheck builds the command check.
func newCheck(sys system) *cobra.Command {
	var kernelBTF string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what this kernel offers, what will be used, and what is missing",
		Long: "Says what this kernel offers, what will be used, what is missing and how to get it.\n" +
			"It ends with status 0 only if packets and block requests can be traced.\n" + exitHelp,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := checkKernelBTF(kernelBTF); err != nil {
				return usageError(err)
			}
			findings := kernel.CheckWith(kernelBTF)
			if err := readerGone(writeCheck(sys.stdout, findings)); err != nil {
				return err
			}
			return cmp.Or(kernel.CannotTrace(findings), kernel.CannotTraceBlock(findings))
		},
	}
	registerKernelBTF(cmd.Flags(), &kernelBTF)
	return cmd
}

// writeCheck prints the findings, what packets would choose, and whether block
// would run.
func writeCheck(w io.Writer, findings []kernel.Finding) error {
	if err := kernel.WriteFindings(w, findings); err != nil {
		return err
	}
	backend, why := kernel.ChooseBackend(findings)
	block := "can be traced"
	if err := kernel.CannotTraceBlock(findings); err != nil {
		block = "cannot be traced"
	}
	if _, err := fmt.Fprintf(w, "\nbackend: %s (%s)\nblock requests: %s\n", backend, why, block); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// noArguments refuses arguments with a sentence of our own.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageErrorf("%s takes no argument, not %q: see '%s --help'", cmd.Name(), args[0], cmd.CommandPath())
	}
	return nil
}
