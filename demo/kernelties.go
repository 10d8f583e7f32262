package main

import (
	"net/http"

	"github.com/spf13/pflag"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// kernelTies is all that the application does for otel-kprobe, beyond what any
// instrumented service does.
type kernelTies struct{}

func (k *kernelTies) register(*pflag.FlagSet) {}

// providerOptions tell otel-kprobe which span each goroutine is in.
func (k *kernelTies) providerOptions() []sdktrace.TracerProviderOption { return nil }

// transport tells otel-kprobe which request each connection is used for. It belongs
// inside the instrumentation's, so that the request's context has its span.
func (k *kernelTies) transport(base *http.Transport) http.RoundTripper { return base }

// serve tells otel-kprobe which request each connection of a server carries.
func (k *kernelTies) serve(*http.Server) {}
