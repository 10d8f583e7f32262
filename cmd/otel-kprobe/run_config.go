package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/otel-kprobe/otel-kprobe/internal/config"
	"github.com/otel-kprobe/otel-kprobe/internal/filter"
)

// serviceConfig is the file of run, checked.
type serviceConfig struct {
	file         *config.File
	packets      *packetsSettings // nil: not enabled
	block        *blockSettings   // nil: not enabled
	output       outputSettings   // of the exporters, which both share
	named        []attribute.KeyValue
	metricsEvery time.Duration // 0: none are sent
	listen       string        // "": nowhere
}

// readServiceConfig reads and checks the file. Every error is its author's to mend.
func readServiceConfig(path string, getenv func(string) string) (*serviceConfig, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the file of --config: %w", err)
	}
	file, err := config.Read(path, content, serviceSchema(), getenv)
	if err != nil {
		return nil, err
	}
	c := &serviceConfig{file: file}
	for _, check := range []func(func(string) string) error{
		c.readSections, c.readService, c.readMetrics, c.readHealth,
	} {
		if err := check(getenv); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// readSections turns what is enabled into the settings of packets and block.
func (c *serviceConfig) readSections(getenv func(string) string) error {
	flags := newSectionFlags()
	if c.file.Bool(sectionPackets, "enabled") {
		if err := c.readPackets(flags, getenv); err != nil {
			return err
		}
	}
	if c.file.Bool(sectionBlock, "enabled") {
		if err := c.readBlock(flags, getenv); err != nil {
			return err
		}
	}
	switch {
	case c.packets != nil:
		c.output = c.packets.output
	case c.block != nil:
		c.output = c.block.outputs()
	default:
		return c.errorf(sectionPackets, "enabled", "neither packets nor block is enabled, so there is nothing to trace")
	}
	return nil
}

func (c *serviceConfig) readPackets(flags *sectionFlags, getenv func(string) string) error {
	expression := c.file.Get(sectionPackets, "filter").Text
	if _, err := filter.Compile(expression); err != nil {
		return c.errorf(sectionPackets, "filter", "read filter: %w", err)
	}
	if err := c.fill(flags.sets[sectionPackets], sectionPackets, true); err != nil {
		return err
	}
	var words []string
	if expression != "" {
		words = append(words, expression)
	}
	settings, err := flags.packets.settings(words, getenv)
	if err != nil {
		return c.placed(sectionPackets, err)
	}
	c.packets = &settings
	return nil
}

func (c *serviceConfig) readBlock(flags *sectionFlags, getenv func(string) string) error {
	// A histogram has no use for what is said of spans.
	spans := !c.file.Bool(sectionBlock, "histogram_only")
	if err := c.fill(flags.sets[sectionBlock], sectionBlock, spans); err != nil {
		return err
	}
	settings, err := flags.block.settings(getenv)
	if err != nil {
		return c.placed(sectionBlock, err)
	}
	settings.output.endpoint = c.file.Get(sectionExport, "otlp_endpoint").Text
	if spans {
		settings.output.endpoint = flags.block.output.otlp.url
	}
	c.block = &settings
	return nil
}

// fill puts what the file says of a section, and with spans of the exports, into
// flags. What has its default is not given.
func (c *serviceConfig) fill(flags *pflag.FlagSet, section string, spans bool) (err error) {
	flags.VisitAll(func(flag *pflag.Flag) {
		from, key := section, keyName(flag.Name)
		switch {
		case err != nil || slices.Contains(notOfService, flag.Name):
			return
		case exportKeys[flag.Name] != "":
			if from, key = sectionExport, exportKeys[flag.Name]; !spans {
				return
			}
		}
		value := c.file.Get(from, key)
		text := value.Text
		if len(value.List) > 0 {
			text = csvLine(value.List)
		}
		if def := keyOf(flag); value.Equal(&config.Value{Text: def.Default}) || text == "" {
			return
		}
		if setErr := flags.Set(flag.Name, text); setErr != nil {
			err = c.errorf(from, key, "read %s: %w", key, errors.Unwrap(setErr))
		}
	})
	return err
}

// csvLine is a list as pflag takes it.
func csvLine(list []string) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(list) // to memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func (c *serviceConfig) errorf(section, key, format string, args ...any) error {
	return &config.Error{Position: c.file.At(section, key), Err: fmt.Errorf(format, args...)}
}

// placed says of an error of flags where in the file it comes from: at the value
// of the first flag that it names.
func (c *serviceConfig) placed(section string, err error) error {
	at := c.file.At(section, "")
	if word := flagWord.FindString(err.Error()); word != "" {
		flag := strings.TrimPrefix(word, "--")
		from, key := section, keyName(flag)
		if name := exportKeys[flag]; name != "" {
			from, key = sectionExport, name
		}
		at = c.file.At(from, key)
	}
	return &config.Error{Position: at, Err: errors.New(inFile(err.Error()))}
}

// readService reads what the resource says.
func (c *serviceConfig) readService(func(string) string) error {
	if name := c.file.Get(sectionService, "name").Text; name != "" {
		c.named = append(c.named, semconv.ServiceName(name))
	}
	attributes := c.file.Get(sectionService, "attributes")
	for _, key := range slices.Sorted(maps.Keys(attributes.Map)) {
		if key == "" {
			return c.errorf(sectionService, "attributes", "read attributes: a name is empty")
		}
		c.named = append(c.named, attribute.String(key, attributes.Map[key]))
	}
	return nil
}

func (c *serviceConfig) readMetrics(func(string) string) error {
	every, err := time.ParseDuration(c.file.Get(sectionMetrics, "interval").Text)
	if err != nil || every < time.Second {
		return c.errorf(sectionMetrics, "interval", "read interval: %v is shorter than 1s", every)
	}
	if c.file.Bool(sectionMetrics, "enabled") {
		c.metricsEvery = every
	}
	return nil
}

func (c *serviceConfig) readHealth(func(string) string) error {
	text := c.file.Get(sectionHealth, "listen").Text
	if text == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return c.errorf(sectionHealth, "listen", "read listen: %q is no HOST:PORT", text)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return c.errorf(sectionHealth, "listen", "read listen: %q is no port", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	c.listen = net.JoinHostPort(host, port)
	return nil
}

// required says whether a section must be traced.
func (c *serviceConfig) required(section string) bool { return c.file.Bool(section, "required") }
