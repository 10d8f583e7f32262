package otelkprobe_test

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
	"github.com/otel-kprobe/otel-kprobe/otelkprobe/spanprocessor"
)

// get stands for what a service does with its client.
func get(*http.Client, *sdktrace.TracerProvider) {}

// A client: one line for the spans, one for the connections.
func ExampleNewTransport() {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(spanprocessor.New()), // beside the one that exports
	)
	// Where otelhttp makes the spans: otelhttp.NewTransport(otelkprobe.NewTransport(nil)).
	client := &http.Client{Transport: otelkprobe.NewTransport(nil)}
	get(client, provider)
}

// A client with a transport of its own.
func ExampleDialContext() {
	base := &http.Transport{
		DialContext:         otelkprobe.DialContext(&net.Dialer{Timeout: 5 * time.Second}),
		MaxIdleConnsPerHost: 50,
	}
	get(&http.Client{Transport: otelkprobe.NewTransport(base)}, nil)
}

// A server: one line for the spans, one for the connections.
func ExampleServer() {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(spanprocessor.New()), // beside the one that exports
	)
	// Where otelhttp makes the spans, the handler is an otelhttp.NewHandler.
	server := &http.Server{Addr: ":8080", Handler: http.DefaultServeMux}
	otelkprobe.Server(server)
	if err := server.ListenAndServe(); err != nil {
		slog.Error("serve", "error", err)
	}
	_ = provider
}
