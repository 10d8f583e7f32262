package main

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/spf13/pflag"
)

func TestProgramFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // the error
	}{
		{nil, ""},
		{[]string{"--trace-tc"}, ""},
		{[]string{"--trace-xdp", "--trace-tc"}, ""},
		{[]string{"--entry-only"}, ""},
		{[]string{"--trace-tc", "--entry-only"}, "read --trace-tc: what a program decides is known at its return: leave --entry-only out"},
		{[]string{"--trace-xdp", "--entry-only"}, "read --trace-xdp: what a program decides is known at its return: leave --entry-only out"},
	} {
		var f packetsFlags
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.register(flags)
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		_, err := f.settings(nil, lookup(nil))
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestDescribePrograms(t *testing.T) {
	for _, c := range []struct {
		flags  programFlags
		probed int
		failed uint64
		want   string
	}{
		{programFlags{tc: true}, 0, 0, "no tc program is loaded that can be traced: those that are loaded from now on will be"},
		{programFlags{tc: true, xdp: true}, 0, 1, "no tc or xdp program is loaded that can be traced: those that are loaded from now on will be; 1 cannot be traced"},
		{programFlags{xdp: true}, 3, 0, "tracing 3 xdp programs, and those that are loaded from now on"},
	} {
		if got := c.flags.describe(c.probed, c.failed); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestKernelWithoutPrograms(t *testing.T) {
	lacks := func(missing ebpf.ProgramType) func(ebpf.ProgramType) error {
		return func(asked ebpf.ProgramType) error {
			if asked == missing {
				return ebpf.ErrNotSupported
			}
			return nil
		}
	}
	const leave = ": leave the flag out"
	for _, c := range []struct {
		flags   programFlags
		missing ebpf.ProgramType
		jit     string
		want    string
	}{
		{programFlags{}, ebpf.Tracing, "0", ""},
		{programFlags{tc: true}, ebpf.XDP, "1", ""},
		{programFlags{xdp: true}, ebpf.SchedCLS, "", ""},
		{programFlags{tc: true, xdp: true}, ebpf.UnspecifiedProgram, "2", ""},
		{programFlags{tc: true}, ebpf.Tracing, "1", "read --trace-tc: this kernel has no BPF trampolines (CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF)" + leave},
		{programFlags{tc: true}, ebpf.SchedCLS, "1", "read --trace-tc: this kernel has no tc programs (CONFIG_NET)" + leave},
		{programFlags{xdp: true}, ebpf.XDP, "1", "read --trace-xdp: this kernel has no XDP programs (CONFIG_NET)" + leave},
		{programFlags{xdp: true}, ebpf.UnspecifiedProgram, "0", "read --trace-xdp: BPF programs can be traced only when they are compiled: run 'sysctl net.core.bpf_jit_enable=1' and load them anew"},
	} {
		err := c.flags.checkKernel(lacks(c.missing), c.jit)
		if c.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.flags, err)
			}
			continue
		}
		var status *statusError
		if !errors.As(err, &status) || status.status != exitCannotTrace || err.Error() != c.want {
			t.Errorf("%+v: %v, want status %d and %q", c.flags, err, exitCannotTrace, c.want)
		}
	}
}
