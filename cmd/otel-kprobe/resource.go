package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

const (
	defaultService = "otel-kprobe"
	modulePath     = "github.com/otel-kprobe/otel-kprobe"
)

// host is the machine whose packets the spans are about: this one, or that of a
// recording, so that a replay gives the same resource anywhere.
type host struct {
	name    string
	id      string // /etc/machine-id, "" where there is none, as in many containers
	arch    string // as in GOARCH, whose names are those of host.arch
	release string // of the kernel
	// named is what a configuration says of the resource; it wins over the environment.
	named []attribute.KeyValue
}

// thisHost describes the machine that we run on.
func thisHost() (host, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return host{}, fmt.Errorf("read the kernel's release: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		return host{}, fmt.Errorf("read the host's name: %w", err)
	}
	return host{
		name:    name,
		id:      cmp.Or(firstLine("/etc/machine-id"), firstLine("/var/lib/dbus/machine-id")),
		arch:    runtime.GOARCH,
		release: unix.ByteSliceToString(uts.Release[:]),
	}, nil
}

// recordedHost is the machine of a recording.
func recordedHost(h recording.Header) host {
	return host{name: h.HostName, id: h.HostID, arch: h.Architecture, release: h.KernelRelease}
}

func (h host) attributes() []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.HostName(h.name),
		semconv.OSTypeLinux,
		semconv.OSDescription("Linux " + h.release),
		attribute.String(string(semconv.HostArchKey), h.arch),
	}
	if h.id != "" {
		attributes = append(attributes, semconv.HostID(h.id))
	}
	return attributes
}

// newResource is sdkResource for the envelope of the spans.
func newResource(ctx context.Context, h host, instance string, logger *slog.Logger) spans.Resource {
	described := sdkResource(ctx, h, instance, logger)
	r := spans.Resource{SchemaURL: described.SchemaURL()}
	for _, kv := range described.Attributes() {
		r.Attrs = append(r.Attrs, spans.ResourceAttr{
			Key: string(kv.Key), Type: spans.TypeString, Str: kv.Value.String(),
		})
	}
	return r
}

// sdkResource says what makes the spans and metrics: this program for that
// host, and what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, which comes
// first but for what a configuration names.
func sdkResource(ctx context.Context, h host, instance string, logger *slog.Logger) *resource.Resource {
	described := resource.NewSchemaless(append(
		h.attributes(),
		semconv.ServiceName(defaultService),
		semconv.ServiceVersion(version()),
		semconv.ServiceInstanceID(instance),
	)...)
	environment, err := resource.New(ctx, resource.WithFromEnv())
	if err != nil {
		logger.Warn("a part of OTEL_RESOURCE_ATTRIBUTES is left out", "error", err)
	}
	if merged, err := resource.Merge(described, environment); err == nil {
		described = merged // neither has a schema that the other could contradict
	}
	if merged, err := resource.Merge(described, resource.NewSchemaless(h.named...)); err == nil {
		described = merged
	}
	return resource.NewWithAttributes(semconv.SchemaURL, described.Attributes()...)
}

// scope names this module as the maker of the spans.
func scope() spans.Scope {
	return spans.Scope{Name: modulePath, Version: version(), SchemaURL: semconv.SchemaURL}
}

// firstLine is the first line of a small file, "" when it can't be read.
func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
