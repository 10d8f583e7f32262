package e2e

import (
	"context"
	"fmt"
	"path/filepath"
)

// Jaeger is a running Jaeger all-in-one that keeps its traces in memory.
type Jaeger struct {
	// OTLP is the "127.0.0.1:port" of its OTLP/gRPC receiver.
	OTLP string
	// Query is the base URL of its query API, without a slash at the end.
	Query string

	process *process
}

// JaegerUIConfig is the path, in the repository, of what Jaeger's page is configured
// with.
const JaegerUIConfig = "deploy/jaeger-ui.json"

// JaegerOptions say what a Jaeger shows.
type JaegerOptions struct {
	// Page is the directory with the files of its page, which the Jaeger of a Go module
	// does not have; "" leaves it without.
	Page string
}

// StartJaeger starts a Jaeger that logs into dir and returns once it takes spans
// and queries. Whoever started it stops it.
func StartJaeger(ctx context.Context, dir string, o JaegerOptions) (*Jaeger, error) {
	bin, err := ToolPath(ctx, ToolJaeger)
	if err != nil {
		return nil, err
	}
	root, err := RepositoryRoot()
	if err != nil {
		return nil, err
	}
	// Every address Jaeger would listen on: the defaults are all interfaces and
	// fixed ports.
	flags := []string{
		"admin.http.host-port",
		"collector.otlp.grpc.host-port",
		"query.http-server.host-port",
		"query.grpc-server.host-port",
		"collector.otlp.http.host-port",
		"collector.grpc-server.host-port",
		"collector.http-server.host-port",
		"http-server.host-port",
	}
	j := &Jaeger{}
	j.process, err = startReady(ctx, func() (*process, string, error) {
		free, err := freeAddresses(len(flags))
		if err != nil {
			return nil, "", err
		}
		args := []string{
			"--collector.otlp.enabled=true",
			"--log-level=warn",
			"--query.ui-config=" + filepath.Join(root, JaegerUIConfig),
			// The agent's sockets cannot be turned off, and nobody needs to know them.
			"--processor.jaeger-binary.server-host-port=" + loopback + ":0",
			"--processor.jaeger-compact.server-host-port=" + loopback + ":0",
			"--processor.zipkin-compact.server-host-port=" + loopback + ":0",
		}
		if o.Page != "" {
			args = append(args, "--query.static-files="+o.Page)
		}
		for i, flag := range flags {
			args = append(args, "--"+flag+"="+free[i])
		}
		j.OTLP, j.Query = free[1], "http://"+free[2]
		p, err := startProcess("jaeger", filepath.Join(dir, "jaeger.log"), bin, args...)
		return p, "http://" + free[0] + "/", err
	})
	if err != nil {
		return nil, fmt.Errorf("start Jaeger: %w", err)
	}
	return j, nil
}

// Stop ends Jaeger; its traces are gone. It does not wait for Jaeger to end by
// itself: that takes ten seconds and there is nothing to flush. It may be called
// more than once.
func (j *Jaeger) Stop() error {
	return j.process.kill()
}

// Log returns the end of Jaeger's log.
func (j *Jaeger) Log() string { return j.process.logTail() }
