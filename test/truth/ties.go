package truth

import (
	"context"
	"net"
	"net/http"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
	"github.com/otel-kprobe/otel-kprobe/otelkprobe/spanprocessor"
)

// ties is all that a role does for otel-kprobe: nothing without the helper.
type ties struct{ helper bool }

func newTies(helper bool) ties { return ties{helper} }

func (k ties) providerOptions() []sdktrace.TracerProviderOption {
	if !k.helper {
		return nil
	}
	return []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(spanprocessor.New())}
}

func (k ties) transport(base *http.Transport) http.RoundTripper {
	if !k.helper {
		return base
	}
	return otelkprobe.NewTransport(base)
}

func (k ties) dial(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	if !k.helper {
		return d.DialContext
	}
	return otelkprobe.DialContext(d)
}

func (k ties) serve(s *http.Server) {
	if k.helper {
		otelkprobe.Server(s)
	}
}
