package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
)

func TestParseEndpoint(t *testing.T) {
	for value, want := range map[string]string{
		"collector":               "http://collector:4317",
		"collector:9":             "http://collector:9",
		"10.0.0.1:4317":           "http://10.0.0.1:4317",
		"[::1]":                   "http://[::1]:4317",
		"[::1]:9":                 "http://[::1]:9",
		"http://collector":        "http://collector:4317",
		"https://collector:443/":  "https://collector:443",
		"":                        "",
		":4317":                   "",
		"unix:///run/otlp":        "",
		"http://collector/v1":     "",
		"http://user@collector":   "",
		"http://collector?x=1":    "",
		"collector:port":          "",
		"http://collector:4317#a": "",
	} {
		got, err := parseEndpoint(value)
		if (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: %q %v, want %q", value, got, err, want)
		}
	}
}

func TestEndpointName(t *testing.T) {
	for _, c := range []struct {
		flag, general, own, want string
	}{
		{want: "localhost:4317"},
		{flag: "http://a:1", general: "http://b:2", want: "a:1"},
		{general: "https://b:2/", want: "b:2"},
		{general: "http://b:2", own: "http://c:3", want: "c:3"},
		{general: "b:2", want: "b:2"},
		{general: "unix:///run/otlp", want: "unix:///run/otlp"},
	} {
		env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.general, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.own}
		if got := endpointName(c.flag, lookup(env)); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
		env = map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.general, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": c.own}
		if got := metricsSignal.endpointName(c.flag, lookup(env)); got != c.want {
			t.Errorf("%+v of metrics: %q", c, got)
		}
	}
}

// Nothing in the environment speaks of TLS: the Collector on this machine is
// spoken to without.
func TestPlainByDefault(t *testing.T) {
	metricsOptions := func(getenv func(string) string) int {
		return len(clientOptions(metricsSignal, "", getenv, otlpmetricgrpc.WithEndpointURL, otlpmetricgrpc.WithInsecure))
	}
	if got := len(endpointOptions("", lookup(nil))); got != 1 {
		t.Errorf("%d options without any variable", got)
	}
	if got := metricsOptions(lookup(nil)); got != 1 {
		t.Errorf("%d options of metrics without any variable", got)
	}
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_CERTIFICATE",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_ENDPOINT",
	} {
		if got := len(endpointOptions("", lookup(map[string]string{name: "x"}))); got != 0 {
			t.Errorf("%s: %d options", name, got)
		}
		want := 0
		if strings.Contains(name, "TRACES") {
			want = 1 // those of the other signal say nothing
		}
		if got := metricsOptions(lookup(map[string]string{name: "x"})); got != want {
			t.Errorf("%s: %d options of metrics, want %d", name, got, want)
		}
		name = strings.Replace(name, "TRACES", "METRICS", 1)
		if got := metricsOptions(lookup(map[string]string{name: "x"})); got != 0 {
			t.Errorf("%s: %d options of metrics", name, got)
		}
	}
}

func TestWarnUnreachable(t *testing.T) {
	refuse := func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	answer := func(context.Context, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		return near, nil
	}
	never := func(context.Context, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("dialled")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		target string
		dial   dialer
		warns  bool
	}{
		{"refused", t.Context(), "collector:4317", refuse, true},
		{"there", t.Context(), "collector:4317", answer, false},
		{"run has ended", ended, "collector:4317", refuse, false},
		{"socket", t.Context(), "unix:///run/otlp", never, false},
		{"resolver of gRPC", t.Context(), "dns:///collector", never, false},
		{"no port", t.Context(), "collector", never, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			warnUnreachable(c.ctx, c.target, c.dial, newLogger(&log))
			want := `level=WARN msg="cannot reach the OTLP endpoint yet: start a collector there or name another with --otlp=ENDPOINT" endpoint=` + c.target
			if got := log.String(); strings.HasPrefix(got, want) != c.warns || !c.warns && got != "" {
				t.Errorf("log %q", got)
			}
		})
	}
}

// Without a dialer of our own, as block has none, the usual one is taken.
func TestWarnUnreachableDialsByItself(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	var log bytes.Buffer
	warnUnreachable(t.Context(), target, nil, newLogger(&log))
	if log.Len() > 0 {
		t.Errorf("log %q though somebody listens", log.String())
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	warnUnreachable(t.Context(), target, nil, newLogger(&log))
	if !strings.Contains(log.String(), "cannot reach the OTLP endpoint yet") {
		t.Errorf("log %q though nobody listens", log.String())
	}
}

func TestWarnProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:3128")
	t.Setenv("NO_PROXY", "near")
	for target, want := range map[string]bool{"collector:4317": true, "near:4317": false, "localhost:4317": false} {
		var log bytes.Buffer
		warnProxy(target, newLogger(&log))
		if got := strings.HasPrefix(log.String(), `level=WARN msg="HTTPS_PROXY is not used: `); got != want {
			t.Errorf("%s: log %q", target, log.String())
		}
	}
}
