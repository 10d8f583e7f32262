package main

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

const (
	defaultService = "otel-kprobe"
	modulePath     = "github.com/otel-kprobe/otel-kprobe"
)

// newResource says what makes the spans: this program on this host, and what
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES add.
func newResource(ctx context.Context, instance string, logger *slog.Logger) (spans.Resource, error) {
	detected, err := resource.New(ctx,
		resource.WithAttributes(
			semconv.ServiceName(defaultService),
			semconv.ServiceVersion(version()),
			semconv.ServiceInstanceID(instance),
		),
		resource.WithHost(),
		resource.WithHostID(),
		resource.WithOS(),
		resource.WithFromEnv(),
	)
	if detected == nil {
		return spans.Resource{}, fmt.Errorf("describe this host: %w", err)
	}
	if err != nil {
		// A container without /etc/machine-id has no host.id: the rest is good.
		logger.Debug("describe this host", "error", err)
	}
	r := spans.Resource{SchemaURL: semconv.SchemaURL}
	for _, kv := range detected.Attributes() {
		r.Attrs = append(r.Attrs, resourceAttr(kv))
	}
	return r, nil
}

func resourceAttr(kv attribute.KeyValue) spans.ResourceAttr {
	a := spans.ResourceAttr{Key: string(kv.Key)}
	switch kv.Value.Type() {
	case attribute.INT64:
		a.Type, a.Int = spans.TypeInt, kv.Value.AsInt64()
	case attribute.BOOL:
		a.Type = spans.TypeBool
		if kv.Value.AsBool() {
			a.Int = 1
		}
	case attribute.FLOAT64:
		a.Type, a.Dbl = spans.TypeDouble, kv.Value.AsFloat64()
	case attribute.STRINGSLICE:
		a.Type, a.List = spans.TypeList, kv.Value.AsStringSlice()
	default:
		a.Type, a.Str = spans.TypeString, kv.Value.Emit()
	}
	return a
}

// scope names this module as the maker of the spans.
func scope() spans.Scope {
	return spans.Scope{Name: modulePath, Version: version(), SchemaURL: semconv.SchemaURL}
}
