package main

import (
	"net"
	"net/http"

	"github.com/spf13/pflag"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
	"github.com/otel-kprobe/otel-kprobe/otelkprobe/spanprocessor"
)

// kernelTies is all that the application does for otel-kprobe, beyond what any
// instrumented service does. Without its flag it does nothing.
type kernelTies struct{ helper bool }

func (k *kernelTies) register(flags *pflag.FlagSet) {
	flags.BoolVar(&k.helper, "helper", true, "tell otel-kprobe, where it runs, of spans and connections by package otelkprobe")
}

// providerOptions tell otel-kprobe which span each goroutine is in, and which request
// each connection of a server carries.
func (k *kernelTies) providerOptions() []sdktrace.TracerProviderOption {
	if !k.helper {
		return nil
	}
	return []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(spanprocessor.New())}
}

// transport tells otel-kprobe which request each connection is used for. It belongs
// inside the instrumentation's, so that the request's context has its span.
func (k *kernelTies) transport(base *http.Transport) http.RoundTripper {
	if !k.helper {
		return base
	}
	base.DialContext = otelkprobe.DialContext(&net.Dialer{Timeout: headerWithin})
	return otelkprobe.NewTransport(base)
}

// serve lets the spans of a server's requests have their connections.
func (k *kernelTies) serve(s *http.Server) {
	if k.helper {
		otelkprobe.Server(s)
	}
}
