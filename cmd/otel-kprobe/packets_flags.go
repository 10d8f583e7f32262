package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/filter"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// packetsFlags are the flags of packets as they were given.
type packetsFlags struct {
	output outputFlags
	run    runFlags
	extras extrasFlags

	function  string
	modules   modulesFlag
	kernelBTF string
	nonSkb    nonSkbFlags
	netns     string
	ifname    string
	mark      string
	process   string
	cgroup    string
	tunnel    string
	sample    string
	backend   string
	entryOnly bool
	noPayload bool
	maxEvents uint64
	programs  programFlags
}

func (f *packetsFlags) register(flags *pflag.FlagSet) {
	f.output.register(flags)
	f.output.registerDescribe(flags)
	flags.StringVar(&f.function, "filter-func", "", "probe only the functions whose whole name matches this `RE2` expression")
	f.modules.register(flags)
	registerKernelBTF(flags, &f.kernelBTF)
	f.nonSkb.register(flags)
	flags.StringVar(&f.netns, "filter-netns", "", "follow only packets in this network namespace: a `PATH`, inode:N, or a name of 'ip netns'")
	flags.StringVar(&f.ifname, "filter-ifname", "", "follow only packets that pass the interface of this `NAME`")
	flags.StringVar(&f.mark, "filter-mark", "", "follow only packets with this skb mark, `V[/MASK]`")
	flags.StringVar(&f.process, "filter-process", "", "follow only packets of the sockets that this process uses: a `PID`, or a name as in /proc/PID/comm")
	flags.StringVar(&f.cgroup, "filter-cgroup", "", "follow only packets of sockets of this cgroup (version 2) and those below it: a `PATH`, or an id")
	flags.StringVar(&f.tunnel, "filter-tunnel", "", "follow only packets in a tunnel (vxlan, geneve, ipip, gre) that carry what this pcap `EXPRESSION` matches")
	registerSample(flags, &f.sample, "flows, each connection as a whole and the same ones on every host")
	flags.StringVar(&f.backend, "backend", "auto", "how to attach: auto, session, multi or kprobe; 'otel-kprobe check' says which this kernel has")
	flags.BoolVar(&f.entryOnly, "entry-only", false, "do not probe returns: cheaper, but without durations and return values")
	registerNoPayload(flags, &f.noPayload)
	f.extras.register(flags)
	f.programs.register(flags)
	flags.Uint64Var(&f.maxEvents, "max-events", 0, "while more than `N` events come a second, do not record the functions that give most (default: no limit; for a service some 50000)")
	f.run.register(flags)
}

// packetsSettings are the flags of packets, checked.
type packetsSettings struct {
	output    outputSettings
	run       runFlags
	extras    extrasSettings
	pcap      *filter.Program
	pcapText  string
	function  *regexp.Regexp
	funcText  string
	modules   []string // see probe.Options
	kernelBTF string   // a file, see kernel.ReadVmlinuxBTF
	nonSkb    nonSkbSettings
	netns     uint32
	ifname    string
	mark      filter.Mark
	tunnel    *filter.Program // nil: not asked for
	owner     bpf.OwnerFilter
	sample    uint64 // see parseSample
	backend   string // "auto" or the name of a probe.Backend
	entryOnly bool
	maxEvents uint64 // a second; 0: no limit
	noPayload bool   // what packets carry is not looked at for spans of applications
	programs  programFlags
}

// settings checks the flags. Every error is the user's to mend.
func (f *packetsFlags) settings(args []string, getenv func(string) string) (packetsSettings, error) {
	s := packetsSettings{
		run:       f.run,
		pcapText:  strings.Join(args, " "),
		funcText:  f.function,
		kernelBTF: f.kernelBTF,
		ifname:    f.ifname,
		backend:   f.backend,
		entryOnly: f.entryOnly,
		noPayload: f.noPayload,
		maxEvents: f.maxEvents,
		programs:  f.programs,
	}
	for _, check := range []func(*packetsSettings) error{
		f.checkFilters, f.checkOwner, f.checkBackend,
	} {
		if err := check(&s); err != nil {
			return s, err
		}
	}
	if err := f.programs.check(f.entryOnly); err != nil {
		return s, err
	}
	if err := f.run.check(); err != nil {
		return s, err
	}
	var err error
	if s.extras, err = f.extras.settings(); err != nil {
		return s, err
	}
	if s.output, err = f.output.settings(getenv); err != nil {
		return s, err
	}
	err = s.checkNoPayload()
	return s, err
}

func (f *packetsFlags) checkFilters(s *packetsSettings) (err error) {
	if first, _, _ := strings.Cut(s.pcapText, " "); f.output.otlp.given && f.output.otlp.url == "" &&
		(isHostPort(first) || strings.Contains(first, "://")) {
		return fmt.Errorf("read --otlp: the endpoint follows an equals sign: --otlp=%s", first)
	}
	if s.pcap, err = filter.Compile(s.pcapText); err != nil {
		return err
	}
	if f.tunnel != "" {
		if s.tunnel, err = filter.Compile(f.tunnel); err != nil {
			return fmt.Errorf("read --filter-tunnel: %w", err)
		}
	}
	if f.function != "" {
		if s.function, err = probe.CompilePattern(f.function); err != nil {
			return fmt.Errorf("read --filter-func: %w", err)
		}
	}
	if s.modules, err = f.modules.parse(); err != nil {
		return err
	}
	if s.nonSkb, err = f.nonSkb.settings(f.entryOnly); err != nil {
		return err
	}
	if err := checkKernelBTF(f.kernelBTF); err != nil {
		return err
	}
	if f.netns != "" {
		if s.netns, err = filter.ParseNetNS(f.netns); err != nil {
			return fmt.Errorf("read --filter-netns: %w", err)
		}
	}
	if f.mark != "" {
		if s.mark, err = filter.ParseMark(f.mark); err != nil {
			return fmt.Errorf("read --filter-mark: %w", err)
		}
	}
	if s.sample, err = parseSample(f.sample); err != nil {
		return err
	}
	if len(f.ifname) >= unix.IFNAMSIZ {
		return fmt.Errorf("read --filter-ifname: %q is longer than the %d bytes that a name can have", f.ifname, unix.IFNAMSIZ-1)
	}
	return nil
}

func (f *packetsFlags) checkBackend(s *packetsSettings) error {
	if f.backend == "auto" {
		return nil
	}
	if _, err := probe.ParseBackend(f.backend); err != nil {
		return fmt.Errorf("read --backend: %w", err)
	}
	return nil
}
