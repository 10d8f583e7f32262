package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// outputFlags say where spans go; packets and replay share them.
type outputFlags struct {
	exporters []string
	otlp      string
	output    string
	format    string
	rawAddrs  bool
}

// otlpFromEnvironment is the value of --otlp without "=ENDPOINT".
const otlpFromEnvironment = "environment"

// The names of the exporters, as --exporter takes them.
const (
	exporterConsole = "console"
	exporterOTLP    = "otlp"
	exporterFile    = "file"
)

func (f *outputFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.exporters, "exporter", nil, "where spans go: console, otlp, file; several separated by commas")
	flags.StringVar(&f.otlp, "otlp", "", "send spans by OTLP/gRPC to this `ENDPOINT` (host:port or URL; without one: OTEL_EXPORTER_OTLP_ENDPOINT, else localhost:4317)")
	flags.Lookup("otlp").NoOptDefVal = otlpFromEnvironment
	flags.StringVar(&f.output, "output", "", "write spans to this `FILE` as OTLP/JSON lines, which Jaeger's UI can upload")
	flags.StringVar(&f.format, "format", "tree", "what the console shows: tree, lines or json")
	flags.BoolVar(&f.rawAddrs, "raw-addresses", false, "show kernel addresses as they are instead of hashed")
}

// outputSettings are outputFlags, checked and completed from the environment.
type outputSettings struct {
	console, otlp, file bool
	endpoint            string // as given to --otlp, "" when the environment decides
	path                string
	format              string
	rawAddresses        bool
	disabled            bool // OTEL_SDK_DISABLED kept the spans from being sent
}

func (f *outputFlags) settings(getenv func(string) string) (outputSettings, error) {
	s := outputSettings{path: f.output, format: f.format, rawAddresses: f.rawAddrs}
	if !slices.Contains([]string{"tree", "lines", "json"}, f.format) {
		return s, fmt.Errorf("read --format: %q is none of tree, lines, json", f.format)
	}
	names, err := f.names(getenv)
	if err != nil {
		return s, err
	}
	s.console = slices.Contains(names, exporterConsole)
	s.otlp = slices.Contains(names, exporterOTLP)
	s.file = slices.Contains(names, exporterFile)
	switch {
	case s.file && f.output == "":
		return s, errors.New("export to a file: name it with --output FILE")
	case !s.file && f.output != "":
		s.file = true
	}
	if f.otlp != "" && !s.otlp {
		return s, errors.New("read --otlp: --exporter does not name otlp, so nothing would be sent; add it or leave --otlp out")
	}
	if s.otlp {
		if s.endpoint, err = parseEndpoint(f.otlp); err != nil {
			return s, err
		}
		if err := checkProtocol(getenv); err != nil {
			return s, err
		}
	}
	if s.otlp && strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		s.otlp, s.disabled = false, true
	}
	return s, nil
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
	if f.otlp != "" {
		return []string{exporterOTLP}, nil
	}
	if list := getenv("OTEL_TRACES_EXPORTER"); list != "" {
		return exportersOfEnvironment(list)
	}
	if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
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

// parseEndpoint checks the value of --otlp and gives it as a URL; "" leaves the
// choice to the environment.
func parseEndpoint(value string) (string, error) {
	if value == "" || value == otlpFromEnvironment {
		return "", nil
	}
	text := value
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("read --otlp: %q is neither host:port nor a URL", value)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("read --otlp: scheme %q is neither http nor https", u.Scheme)
	}
	if u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return "", fmt.Errorf("read --otlp: %q is neither host:port nor a URL of scheme, host and port", value)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "4317")
	}
	u.Path = ""
	return u.String(), nil
}
