package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// Collector is a running OpenTelemetry Collector. It runs the collector-config.yaml
// that users get; an overlay gives it free ports and the file exporter.
type Collector struct {
	// GRPC and HTTP are the "127.0.0.1:port" of the OTLP receivers.
	GRPC, HTTP string
	// File is what the file exporter writes: OTLP/JSON, one TracesData a line.
	// It is complete after Stop.
	File string
	// MetricsFile is the same for metrics, one MetricsData a line, SpanMetricsFile for
	// those that the Collector makes of spans.
	MetricsFile, SpanMetricsFile string
	// Telemetry is where the Collector shows metrics of its own, with Sampling.
	Telemetry string

	process *process
}

// CollectorOptions say what a Collector does with what it gets.
type CollectorOptions struct {
	// Jaeger is the OTLP/gRPC address ("host:port", without TLS) that spans are handed
	// on to, unless it is empty.
	Jaeger string
	// Sampling leaves the sampling of collector-config.yaml in force, and adds what
	// deploy/collector-tempo.yaml says of telemetry, and a Tempo that nobody reaches.
	// Without it every span is kept.
	Sampling bool
}

// overlay is merged over collector-config.yaml: maps merge, lists are replaced.
var overlay = template.Must(template.New("overlay").Parse(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "{{.GRPC}}"}
      http: {endpoint: "{{.HTTP}}"}
processors:
  batch: {timeout: 100ms}
  tail_sampling: {decision_wait: 1s}
connectors:
  span_metrics: {metrics_flush_interval: 200ms}
exporters:
  file/e2e: {path: "{{.File}}"}
  file/metrics: {path: "{{.MetricsFile}}"}
  file/spans: {path: "{{.SpanMetricsFile}}"}
{{- if .Jaeger}}
  otlp_grpc/jaeger: {endpoint: "{{.Jaeger}}"}
{{- end}}
{{- if .Sampling}}
  otlp_grpc/tempo: {endpoint: "127.0.0.1:1", retry_on_failure: {enabled: false}}
{{- end}}
extensions:
  health_check: {endpoint: "{{.Health}}"}
service:
  telemetry:
    logs: {level: warn}
{{- if .Sampling}}
    metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: {{.TelemetryPort}}}}}}]}
{{- end}}
  pipelines:
    traces:
{{- if not .Sampling}}
      processors: [memory_limiter, batch]
{{- end}}
      exporters: [file/e2e{{if .Jaeger}}, otlp_grpc/jaeger{{end}}{{if .Sampling}}, otlp_grpc/tempo{{end}}]
    metrics:
      exporters: [file/metrics]
    metrics/spans:
      exporters: [file/spans]
`))

// StartCollector starts a Collector whose files are in dir and returns once it
// takes spans. Whoever started it stops it.
func StartCollector(ctx context.Context, dir string, o CollectorOptions) (*Collector, error) {
	bin, err := ToolPath(ctx, ToolCollector)
	if err != nil {
		return nil, err
	}
	configs, err := shippedConfigs(o)
	if err != nil {
		return nil, err
	}
	c := &Collector{
		File:            filepath.Join(dir, "collector.jsonl"),
		MetricsFile:     filepath.Join(dir, "metrics.jsonl"),
		SpanMetricsFile: filepath.Join(dir, "spanmetrics.jsonl"),
	}
	overlayPath := filepath.Join(dir, "collector-overlay.yaml")
	configs = append(configs, "--config", overlayPath)
	c.process, err = startReady(ctx, func() (*process, string, error) {
		health, err := c.writeOverlay(overlayPath, o)
		if err != nil {
			return nil, "", err
		}
		p, err := startProcess("otelcol", filepath.Join(dir, "collector.log"), bin, configs...)
		return p, "http://" + health + "/", err
	})
	if err != nil {
		return nil, fmt.Errorf("start the Collector: %w", err)
	}
	return c, nil
}

// writeOverlay gives c free addresses and writes the overlay that has them. It
// returns the address of the health check.
func (c *Collector) writeOverlay(path string, o CollectorOptions) (health string, err error) {
	free, err := freeAddresses(4)
	if err != nil {
		return "", err
	}
	c.GRPC, c.HTTP, c.Telemetry = free[0], free[1], free[3]
	port, err := Port(c.Telemetry)
	if err != nil {
		return "", err
	}
	var yaml strings.Builder
	values := struct {
		*Collector
		CollectorOptions
		Health        string
		TelemetryPort int
	}{c, o, free[2], port}
	if err := overlay.Execute(&yaml, values); err != nil {
		return "", fmt.Errorf("render the Collector's overlay: %w", err)
	}
	if err := os.WriteFile(path, []byte(yaml.String()), 0o644); err != nil {
		return "", fmt.Errorf("write the Collector's overlay: %w", err)
	}
	return free[2], nil
}

// Stop ends the Collector after it has written and forwarded what it holds. It
// returns an error when the Collector had to be killed because ctx ended, and
// when it exited with a failure. It may be called more than once.
func (c *Collector) Stop(ctx context.Context) error {
	return c.process.stop(ctx)
}

// Log returns the end of the Collector's log.
func (c *Collector) Log() string { return c.process.logTail() }

// shippedConfigs returns the arguments that name the configuration which users get.
func shippedConfigs(o CollectorOptions) ([]string, error) {
	root, err := RepositoryRoot()
	if err != nil {
		return nil, err
	}
	args := []string{"--config", filepath.Join(root, "collector-config.yaml")}
	if o.Sampling {
		args = append(args, "--config", filepath.Join(root, "deploy", "collector-tempo.yaml"))
	}
	return args, nil
}
