package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/config"
)

// The sections of the file of run.
const (
	sectionPackets = "packets"
	sectionBlock   = "block"
	sectionExport  = "export"
	sectionService = "service"
	sectionMetrics = "metrics"
	sectionHealth  = "health"
)

// exportKeys are the keys of section export, by the flags of packets and block
// that they are.
var exportKeys = map[string]string{
	"exporter":           "exporters",
	"otlp":               "otlp_endpoint",
	"output":             "file",
	"format":             "format",
	"correlate":          "correlate",
	"raw-addresses":      "raw_addresses",
	"services-per-layer": "services_per_layer",
}

// notOfService are flags that make no sense for a service, or are flags of run.
var notOfService = []string{"duration", "limit-traces", "ready-file", "summary-file", "record"}

// sectionFlags are the flags of packets and block, new: what the file says is put
// into them, so that it means what it means on the command line.
type sectionFlags struct {
	packets packetsFlags
	block   blockFlags
	sets    map[string]*pflag.FlagSet // by section
}

func newSectionFlags() *sectionFlags {
	f := &sectionFlags{sets: map[string]*pflag.FlagSet{}}
	for section, register := range map[string]func(*pflag.FlagSet){
		sectionPackets: f.packets.register, sectionBlock: f.block.register,
	} {
		set := pflag.NewFlagSet(section, pflag.ContinueOnError)
		set.SortFlags = false
		register(set)
		f.sets[section] = set
	}
	return f
}

// serviceSchema is all that the file of run may have. Keys that are flags of
// packets and block have their defaults and words.
func serviceSchema() config.Schema {
	flags := newSectionFlags().sets
	enabled := func(what string) []config.Key {
		return []config.Key{
			{Name: "enabled", Kind: config.Bool, Default: "true", Doc: "trace " + what},
			{
				Name: "required", Kind: config.Bool, Default: "true",
				Doc: "end with an error when " + what + " cannot be traced, or no longer; false: go on without",
			},
		}
	}
	packets := append(enabled("packets"), config.Key{
		Name: "filter", Kind: config.Text,
		Doc: "follow only the packets that this pcap-filter(7) expression matches; without one all",
	})
	var exports []config.Key
	flags[sectionPackets].VisitAll(func(flag *pflag.Flag) {
		if name := exportKeys[flag.Name]; name != "" {
			key := keyOf(flag)
			key.Name = name
			exports = append(exports, key)
		}
	})
	return config.Schema{
		{Name: sectionPackets, Doc: "What 'otel-kprobe packets' does.", Keys: append(packets, keysOf(flags[sectionPackets])...)},
		{Name: sectionBlock, Doc: "What 'otel-kprobe block' does.", Keys: append(enabled("block requests"), keysOf(flags[sectionBlock])...)},
		{
			Name: sectionExport, Keys: exports,
			Doc: "Where spans go. TLS, headers and time-outs are those of the environment's OTEL_EXPORTER_OTLP_*.",
		},
		{Name: sectionService, Doc: "What the resource of all spans and metrics says.", Keys: []config.Key{
			{Name: "name", Kind: config.Text, Doc: "service.name; without one that of OTEL_SERVICE_NAME, else otel-kprobe"},
			{Name: "attributes", Kind: config.Map, Doc: "more attributes of the resource; they come before those of OTEL_RESOURCE_ATTRIBUTES"},
		}},
		{Name: sectionMetrics, Doc: "Metrics about otel-kprobe itself, above all of what was lost.", Keys: []config.Key{
			{Name: "enabled", Kind: config.Bool, Default: "true", Doc: "send them to the OTLP endpoint, if there is one"},
			{Name: "interval", Kind: config.Duration, Default: "30s", Doc: "how often they are sent, 1s or longer"},
		}},
		{Name: sectionHealth, Doc: "The listener with /healthz and /metrics (for Prometheus).", Keys: []config.Key{
			{
				Name: "listen", Kind: config.Text,
				Doc: "HOST:PORT to listen at; without a HOST on 127.0.0.1 only, 0.0.0.0:PORT is every address; without a value there is no listener",
			},
		}},
	}
}

// keysOf are the flags that are keys of their section.
func keysOf(flags *pflag.FlagSet) []config.Key {
	var keys []config.Key
	flags.VisitAll(func(flag *pflag.Flag) {
		if exportKeys[flag.Name] == "" && !slices.Contains(notOfService, flag.Name) {
			keys = append(keys, keyOf(flag))
		}
	})
	return keys
}

func keyOf(flag *pflag.Flag) config.Key {
	key := config.Key{Name: keyName(flag.Name), Kind: config.Text, Default: flag.DefValue}
	_, usage := pflag.UnquoteUsage(flag)
	key.Doc = inFile(usage)
	switch flag.Value.Type() {
	case "bool":
		key.Kind = config.Bool
	case "int", "uint", "uint64":
		key.Kind = config.Int
	case "float64":
		key.Kind = config.Percent
	case "duration":
		key.Kind = config.Duration
	case "stringSlice":
		key.Kind, key.Default = config.List, ""
	}
	return key
}

func keyName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// flagWord is a flag in a sentence.
var flagWord = regexp.MustCompile(`--[a-z][a-z-]*[a-z]`)

// inFile says of flags in a sentence what they are called in the file.
func inFile(text string) string {
	return flagWord.ReplaceAllStringFunc(text, func(word string) string {
		flag := strings.TrimPrefix(word, "--")
		if key := exportKeys[flag]; key != "" {
			return sectionExport + "." + key
		}
		return keyName(flag)
	})
}
