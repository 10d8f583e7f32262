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
	// MetricsFile is the same for metrics, one MetricsData a line.
	MetricsFile string

	process *process
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
exporters:
  file/e2e: {path: "{{.File}}"}
  file/metrics: {path: "{{.MetricsFile}}"}
{{- if .Jaeger}}
  otlp_grpc/jaeger: {endpoint: "{{.Jaeger}}"}
{{- end}}
extensions:
  health_check: {endpoint: "{{.Health}}"}
service:
  telemetry: {logs: {level: warn}}
  pipelines:
    traces:
      exporters: [file/e2e{{if .Jaeger}}, otlp_grpc/jaeger{{end}}]
    metrics:
      exporters: [file/metrics]
`))

// StartCollector starts a Collector whose files are in dir and returns once it
// takes spans. It hands them on to the OTLP/gRPC address jaeger ("host:port",
// without TLS) unless that is empty. Whoever started it stops it.
func StartCollector(ctx context.Context, dir, jaeger string) (*Collector, error) {
	bin, err := ToolPath(ctx, ToolCollector)
	if err != nil {
		return nil, err
	}
	config, err := shippedConfig()
	if err != nil {
		return nil, err
	}
	c := &Collector{File: filepath.Join(dir, "collector.jsonl"), MetricsFile: filepath.Join(dir, "metrics.jsonl")}
	overlayPath := filepath.Join(dir, "collector-overlay.yaml")
	c.process, err = startReady(ctx, func() (*process, string, error) {
		free, err := freeAddresses(3)
		if err != nil {
			return nil, "", err
		}
		c.GRPC, c.HTTP = free[0], free[1]
		var yaml strings.Builder
		values := struct{ GRPC, HTTP, Health, File, MetricsFile, Jaeger string }{
			c.GRPC, c.HTTP, free[2], c.File, c.MetricsFile, jaeger,
		}
		if err := overlay.Execute(&yaml, values); err != nil {
			return nil, "", fmt.Errorf("render the Collector's overlay: %w", err)
		}
		if err := os.WriteFile(overlayPath, []byte(yaml.String()), 0o644); err != nil {
			return nil, "", fmt.Errorf("write the Collector's overlay: %w", err)
		}
		p, err := startProcess("otelcol", filepath.Join(dir, "collector.log"), bin,
			"--config", config, "--config", overlayPath)
		return p, "http://" + free[2] + "/", err
	})
	if err != nil {
		return nil, fmt.Errorf("start the Collector: %w", err)
	}
	return c, nil
}

// Stop ends the Collector after it has written and forwarded what it holds. It
// returns an error when the Collector had to be killed because ctx ended, and
// when it exited with a failure. It may be called more than once.
func (c *Collector) Stop(ctx context.Context) error {
	return c.process.stop(ctx)
}

// Log returns the end of the Collector's log.
func (c *Collector) Log() string { return c.process.logTail() }

// shippedConfig returns the path of the configuration that users get.
func shippedConfig() (string, error) {
	root, err := RepositoryRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "collector-config.yaml"), nil
}
