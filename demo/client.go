package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"
)

// clientOptions are the flags of those that call a server.
type clientOptions struct {
	target    string
	trust     string
	http2     bool
	keepAlive bool
}

func (o *clientOptions) register(flags *pflag.FlagSet, name, target, usage string) {
	flags.StringVar(&o.target, name, target, usage)
	flags.StringVar(&o.trust, "trust", "", "trust the certificate in this `file`, which --tls of that server has made")
	flags.BoolVar(&o.keepAlive, "keep-alive", true, "use connections again; without it each request has its own")
}

// newClient makes the client of a server, with a span for each request. perHost is how
// many idle connections it keeps.
func newClient(o clientOptions, k *kernelTies, p trace.TracerProvider, perHost int) (*http.Client, error) {
	target, err := url.Parse(o.target)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return nil, fmt.Errorf("%q is no URL of a server: want http://HOST:PORT", o.target)
	}
	base := &http.Transport{
		Protocols: protocols(o.http2), DisableKeepAlives: !o.keepAlive,
		MaxIdleConnsPerHost: perHost, IdleConnTimeout: idleWithin / 2, // before the server closes them
	}
	if o.trust != "" {
		if base.TLSClientConfig, err = trusting(o.trust); err != nil {
			return nil, err
		}
	}
	return &http.Client{
		Transport: otelhttp.NewTransport(k.transport(base), instrumentation(p)...),
		Timeout:   time.Minute,
	}, nil
}
