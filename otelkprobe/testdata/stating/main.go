// Command stating makes every kind of call that reaches noteV1.
package main

import (
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

func main() {
	otelkprobe.SpanStarted(trace.SpanContext{})
	otelkprobe.SpanEnded(trace.SpanContext{}, trace.SpanContext{})
	otelkprobe.Server(&http.Server{})
	otelkprobe.NewTransport(nil)
}
