package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// outputFlags say which spans go where; packets, block and replay share them.
type outputFlags struct {
	set       *pflag.FlagSet // to tell what was given from what is the default
	exporters []string
	otlp      endpointFlag
	output    string
	format    string
	rawAddrs  bool
	only      []string
	describe  bool
	perLayer  bool
	correlate string
}

// The names of the exporters, as --exporter takes them.
const (
	exporterConsole = "console"
	exporterOTLP    = "otlp"
	exporterFile    = "file"
)

func (f *outputFlags) register(flags *pflag.FlagSet) {
	f.set = flags
	flags.StringSliceVar(&f.exporters, "exporter", nil, "where spans go: console, otlp, file; several separated by commas (default: otlp if an endpoint is named, file if --output is, else console)")
	flags.Var(&f.otlp, "otlp", "send spans by OTLP/gRPC to this `ENDPOINT`, host:port or a URL; without one to OTEL_EXPORTER_OTLP_ENDPOINT, else localhost:4317")
	flags.Lookup("otlp").NoOptDefVal = otlpFromEnvironment
	flags.StringVar(&f.output, "output", "", "write spans to this `FILE` as OTLP/JSON lines, which Jaeger's UI can upload")
	flags.StringVar(&f.format, "format", string(export.FormatTree), "what the console shows: tree, lines or json")
	flags.StringSliceVar(&f.only, "only", nil, "export only traces with one of these `RULES`, separated by commas: drops, errors (status Error), slow=TIME (at least that long), correlated (caused by a span of an application)")
	registerCorrelate(flags, &f.correlate)
	flags.BoolVar(&f.rawAddrs, "raw-addresses", false, "show kernel addresses as they are instead of hashed")
}

// registerDescribe adds the flag that is about the functions of packets.
func (f *outputFlags) registerDescribe(flags *pflag.FlagSet) {
	flags.BoolVar(&f.describe, "describe", false, "say of well-known functions what they do")
	flags.BoolVar(&f.perLayer, "services-per-layer", false, "give each layer of the kernel a service of its own (\"kernel tcp\"), so that Jaeger colours the picture; for otlp and file")
}

// outputSettings are outputFlags, checked and completed from the environment.
type outputSettings struct {
	console, otlp, file bool
	endpoint            string // as given to --otlp, "" when the environment decides
	path                string
	format              export.Format
	rawAddresses        bool
	only                onlyRules
	describe            bool
	perLayer            bool
	correlate           string // one of the values of --correlate
	disabled            bool   // OTEL_SDK_DISABLED kept the spans from being sent
	noSpans             bool   // the run makes none, so no exporter for them is missed
}

// settings checks the flags. Every error is the user's to mend.
func (f *outputFlags) settings(getenv func(string) string) (s outputSettings, err error) {
	s = outputSettings{path: f.output, endpoint: f.otlp.url, rawAddresses: f.rawAddrs, describe: f.describe, perLayer: f.perLayer, correlate: f.correlate}
	if s.format, err = export.ParseFormat(f.format); err != nil {
		return s, fmt.Errorf("read --format: %w", err)
	}
	if s.only, err = parseOnly(f.only); err != nil {
		return s, err
	}
	if err := s.checkCorrelate(); err != nil {
		return s, err
	}
	names, err := f.names(getenv)
	if err != nil {
		return s, err
	}
	s.console = slices.Contains(names, exporterConsole)
	s.otlp = slices.Contains(names, exporterOTLP)
	s.file = slices.Contains(names, exporterFile) || f.output != ""
	switch {
	case s.file && f.output == "":
		return s, errors.New("export to a file: name it with --output FILE")
	case f.otlp.given && !s.otlp:
		return s, errors.New("read --otlp: --exporter does not name otlp, so nothing would be sent; add it or leave --otlp out")
	case f.set.Changed("format") && !s.console:
		return s, fmt.Errorf("read --format: nothing goes to the console, only to %s; add --exporter console", strings.Join(names, ", "))
	case s.perLayer && !s.otlp && !s.file:
		return s, errors.New("read --services-per-layer: services are for receivers of spans, and nothing goes to one; add --otlp or --output FILE")
	case !s.otlp:
		return s, nil
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		s.otlp, s.disabled = false, true
		return s, nil
	}
	if err := checkProtocol(getenv); err != nil || s.endpoint != "" {
		return s, err
	}
	return s, checkEnvironmentEndpoint(getenv)
}

// names decides which exporters are wanted: by flag, else by environment, else
// otlp when an endpoint is known and the console when not.
func (f *outputFlags) names(getenv func(string) string) ([]string, error) {
	if len(f.exporters) > 0 {
		for _, name := range f.exporters {
			if !slices.Contains([]string{exporterConsole, exporterOTLP, exporterFile}, name) {
				return nil, fmt.Errorf("read --exporter: %q is none of console, otlp, file", name)
			}
		}
		return f.exporters, nil
	}
	if f.otlp.given {
		return []string{exporterOTLP}, nil
	}
	if list := getenv("OTEL_TRACES_EXPORTER"); list != "" {
		return exportersOfEnvironment(list)
	}
	if _, variable := endpointOfEnvironment(getenv); variable != "" {
		return []string{exporterOTLP}, nil
	}
	if f.output != "" {
		return []string{exporterFile}, nil
	}
	return []string{exporterConsole}, nil
}

// exportersOfEnvironment reads OTEL_TRACES_EXPORTER
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#exporter-selection).
func exportersOfEnvironment(list string) ([]string, error) {
	var names []string
	for _, name := range strings.Split(list, ",") {
		switch name = strings.TrimSpace(name); name {
		case exporterOTLP, exporterConsole:
			names = append(names, name)
		case "none", "":
		default:
			return nil, fmt.Errorf("read OTEL_TRACES_EXPORTER: %q is none of otlp, console, none", name)
		}
	}
	return names, nil
}

// checkProtocol refuses protocols that we do not speak rather than sending gRPC
// to an HTTP endpoint.
func checkProtocol(getenv func(string) string) error {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch protocol := getenv(name); protocol {
		case "":
			continue
		case "grpc":
			return nil
		default:
			return fmt.Errorf("read %s: %q is not supported, only grpc is; use the endpoint's gRPC port (4317)", name, protocol)
		}
	}
	return nil
}
