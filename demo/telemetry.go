package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushWithin bounds how long the last spans may take when the program ends.
const flushWithin = 5 * time.Second

// newProvider makes what gives this process its spans and exports them. The service is
// called as OTEL_SERVICE_NAME says, else service.
func newProvider(ctx context.Context, service string, k *kernelTies) (*sdktrace.TracerProvider, error) {
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("make the exporter, see the variables OTEL_EXPORTER_OTLP_…: %w", err)
	}
	described, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", service)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithFromEnv()) // the last one is believed
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describe this process, see OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	options := append([]sdktrace.TracerProviderOption{
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(described),
	}, k.providerOptions()...)
	return sdktrace.NewTracerProvider(options...), nil
}

// flush exports what is left, also when ctx is done: that is why the program ends.
func flush(ctx context.Context, p *sdktrace.TracerProvider) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		return fmt.Errorf("export the last spans, is a Collector listening? %w", err)
	}
	return nil
}

// instrumentation is how spans are made and passed on in W3C trace context.
func instrumentation(p trace.TracerProvider) []otelhttp.Option {
	return []otelhttp.Option{
		otelhttp.WithTracerProvider(p),
		otelhttp.WithPropagators(propagation.TraceContext{}),
	}
}
