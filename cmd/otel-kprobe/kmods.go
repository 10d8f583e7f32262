package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// modulesFlag is --kmods; packets and functions share it.
type modulesFlag []string

func (f *modulesFlag) register(flags *pflag.FlagSet) {
	flags.StringSliceVar((*[]string)(f), "kmods", nil,
		"probe only the functions of these `MODULES`, separated by commas; vmlinux is the kernel without modules")
}

// parse gives the names of the modules, nil when all are meant. Its error is the
// user's to mend.
func (f modulesFlag) parse() ([]string, error) {
	if len(f) == 0 {
		return nil, nil
	}
	loaded, err := kernel.LoadedModules(kernel.ModulesPath)
	if err != nil {
		return nil, err
	}
	modules, err := probe.ParseModules(f, loaded)
	if err != nil {
		return nil, fmt.Errorf("read --kmods: %w", err)
	}
	return modules, nil
}
