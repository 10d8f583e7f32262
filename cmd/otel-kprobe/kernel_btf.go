package main

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// registerKernelBTF adds --kernel-btf, which packets, functions and check share.
func registerKernelBTF(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "kernel-btf", "", "read the kernel's types from this `FILE` of BTF, for a kernel that does not describe itself")
}

// checkKernelBTF refuses a file that does not describe the running kernel, as far
// as that can be told. Its error is the user's to mend.
func checkKernelBTF(file string) error {
	if file == "" {
		return nil
	}
	if _, err := kernel.ReadVmlinuxBTF(file, kernel.BTFDir); err != nil {
		return fmt.Errorf("read --kernel-btf: %w", err)
	}
	return nil
}

// loadTypes decodes the kernel's types with the library that relocates programs by
// them.
func loadTypes(file string) (*btf.Spec, error) {
	if file == "" {
		return btf.LoadKernelSpec()
	}
	return btf.LoadSpec(file)
}
