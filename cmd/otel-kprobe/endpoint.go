package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"golang.org/x/net/http/httpproxy"
)

const (
	defaultEndpoint = "localhost:4317"
	defaultOTLPPort = "4317"
	// reachTimeout bounds the look whether anything listens at the endpoint.
	reachTimeout = 2 * time.Second
)

// endpointFlag is the value of --otlp, which may stand without one.
type endpointFlag struct {
	given bool
	url   string // "" leaves the choice to the environment
}

// otlpFromEnvironment is the value of --otlp without "=ENDPOINT".
const otlpFromEnvironment = "environment"

// String implements pflag.Value.
func (e *endpointFlag) String() string { return e.url }

// Type implements pflag.Value.
func (e *endpointFlag) Type() string { return "endpoint" }

// Set implements pflag.Value.
func (e *endpointFlag) Set(value string) (err error) {
	e.given, e.url = true, ""
	if value != otlpFromEnvironment {
		e.url, err = parseEndpoint(value)
	}
	return err
}

// parseEndpoint gives host:port, host or a URL as a URL of scheme, host and port.
func parseEndpoint(value string) (string, error) {
	text := value
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Hostname() == "", u.User != nil, u.RawQuery != "", u.Fragment != "", strings.Trim(u.Path, "/") != "":
		return "", errors.New("an endpoint is host:port or a URL of scheme, host and port")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), defaultOTLPPort)
	}
	u.Path = ""
	return u.String(), nil
}

// otlpSignal is one of the kinds of data that go out by OTLP. Each has variables
// of its own, which come before those of all: its name is the part in the middle
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
type otlpSignal string

const (
	tracesSignal  otlpSignal = "TRACES"
	metricsSignal otlpSignal = "METRICS"
)

// variables are the names of a variable for the signal and for all, the one
// that comes first in front.
func (s otlpSignal) variables(name string) [2]string {
	return [2]string{"OTEL_EXPORTER_OTLP_" + string(s) + "_" + name, "OTEL_EXPORTER_OTLP_" + name}
}

// endpoint gives what the environment names as endpoint of the signal and the
// variable that does, empty if none.
func (s otlpSignal) endpoint(getenv func(string) string) (value, variable string) {
	for _, name := range s.variables("ENDPOINT") {
		if value := strings.TrimSpace(getenv(name)); value != "" {
			return value, name
		}
	}
	return "", ""
}

// checkEndpoint refuses what the client can't read: it would send the signal to
// localhost instead.
func (s otlpSignal) checkEndpoint(getenv func(string) string) error {
	value, variable := s.endpoint(getenv)
	if _, err := url.Parse(value); err != nil {
		return fmt.Errorf("read %s: %q is no URL: write http://HOST:PORT, or https:// for TLS", variable, value)
	}
	return nil
}

// endpointOfEnvironment is the endpoint of the spans.
func endpointOfEnvironment(getenv func(string) string) (value, variable string) {
	return tracesSignal.endpoint(getenv)
}

// checkEnvironmentEndpoint checks the endpoint of the spans.
func checkEnvironmentEndpoint(getenv func(string) string) error {
	return tracesSignal.checkEndpoint(getenv)
}

// isHostPort is true for an endpoint without a scheme.
func isHostPort(value string) bool {
	_, port, err := net.SplitHostPort(value)
	return err == nil && port != "" && strings.Trim(port, "0123456789") == ""
}

// endpointOptions tell the client of the spans what it does not find in the
// environment.
func endpointOptions(endpoint string, getenv func(string) string) []otlptracegrpc.Option {
	return clientOptions(tracesSignal, endpoint, getenv, otlptracegrpc.WithEndpointURL, otlptracegrpc.WithInsecure)
}

// clientOptions tell the client of a signal, whose options O are, what it does
// not find in the environment.
func clientOptions[O any](s otlpSignal, endpoint string, getenv func(string) string, withURL func(string) O, insecure func() O) []O {
	if endpoint != "" {
		return []O{withURL(endpoint)}
	}
	if _, variable := s.endpoint(getenv); variable == "" && s.plainByDefault(getenv) {
		return []O{insecure()}
	}
	return nil
}

// plainByDefault is true when nothing in the environment speaks of TLS: an
// endpoint that is not named is the Collector on this machine.
func (s otlpSignal) plainByDefault(getenv func(string) string) bool {
	for _, name := range []string{"INSECURE", "CERTIFICATE", "CLIENT_CERTIFICATE"} {
		for _, variable := range s.variables(name) {
			if getenv(variable) != "" {
				return false
			}
		}
	}
	return true
}

// endpointName is what messages call the endpoint of the spans.
func endpointName(endpoint string, getenv func(string) string) string {
	return tracesSignal.endpointName(endpoint, getenv)
}

// endpointName is what messages call the endpoint of the signal.
func (s otlpSignal) endpointName(endpoint string, getenv func(string) string) string {
	if endpoint == "" {
		endpoint, _ = s.endpoint(getenv)
	}
	if endpoint == "" {
		return defaultEndpoint
	}
	if u, err := url.Parse(endpoint); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return u.Host
	}
	return endpoint
}

// warnUnreachable says at once, and not after the first time-out, when nothing
// listens at the endpoint. Tracing goes on: a collector may start later. A nil
// dial is the usual one.
func warnUnreachable(ctx context.Context, target string, dial dialer, logger *slog.Logger) {
	if !isHostPort(target) {
		return // the client knows more forms of targets than we do
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			var plain net.Dialer
			return plain.DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, target)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was sent on it
	case !errors.Is(ctx.Err(), context.Canceled):
		logger.Warn("cannot reach the OTLP endpoint yet: start a collector there or name another with --otlp=ENDPOINT",
			"endpoint", target, "error", err)
	}
}

// warnProxy says that a proxy of the environment is not used where we dial
// ourselves.
func warnProxy(target string, logger *slog.Logger) {
	proxyFor := httpproxy.FromEnvironment().ProxyFunc()
	if proxy, err := proxyFor(&url.URL{Scheme: "https", Host: target}); err == nil && proxy != nil {
		logger.Warn("HTTPS_PROXY is not used: spans go to the endpoint directly, so that their packets can be left out of the traces",
			"endpoint", target)
	}
}
