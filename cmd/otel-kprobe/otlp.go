package main

import (
	"context"
	"fmt"
	"net"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// dialer opens the connections to the OTLP endpoint.
type dialer func(ctx context.Context, address string) (net.Conn, error)

// otlpClient sends encoded spans through the official client, so that endpoint,
// TLS, headers, compression, time-out and retries are its own, and with them
// every OTEL_EXPORTER_OTLP_* variable.
type otlpClient struct {
	client otlptrace.Client
}

// newOTLPClient makes a client for endpoint, a URL, or for what the environment
// says when endpoint is empty. It connects when the first spans are sent.
func newOTLPClient(ctx context.Context, endpoint string, getenv func(string) string, dial dialer) (*otlpClient, error) {
	options := []otlptracegrpc.Option{
		otlptracegrpc.WithDialOption(grpc.WithUnaryInterceptor(keepRejected)),
	}
	if dial != nil {
		options = append(options, otlptracegrpc.WithDialOption(grpc.WithContextDialer(dial)))
	}
	switch {
	case endpoint != "":
		options = append(options, otlptracegrpc.WithEndpointURL(endpoint))
	case plainByDefault(getenv):
		options = append(options, otlptracegrpc.WithInsecure())
	}
	client := otlptracegrpc.NewClient(options...)
	if err := client.Start(ctx); err != nil {
		return nil, usageErrorf("connect to the OTLP endpoint: %w", err)
	}
	return &otlpClient{client: client}, nil
}

// plainByDefault is true when nothing in the environment speaks of TLS: an
// endpoint that is not named is the Collector on this machine.
func plainByDefault(getenv func(string) string) bool {
	for _, name := range []string{"ENDPOINT", "INSECURE", "CERTIFICATE", "CLIENT_CERTIFICATE"} {
		if getenv("OTEL_EXPORTER_OTLP_"+name) != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_"+name) != "" {
			return false
		}
	}
	return true
}

// rejectedKey carries a *int64 in a context: where keepRejected writes.
type rejectedKey struct{}

// keepRejected notes how many spans a server refused of a message that it took
// (https://opentelemetry.io/docs/specs/otlp/#partial-success).
func keepRejected(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	rejected, wanted := ctx.Value(rejectedKey{}).(*int64)
	answer, ok := reply.(*coltracepb.ExportTraceServiceResponse)
	if err == nil && wanted && ok {
		*rejected = answer.GetPartialSuccess().GetRejectedSpans()
	}
	return err
}

// upload sends the content of one ResourceSpans message. The bytes travel as
// unknown fields, which the marshaller copies as they are: to the server they
// are ordinary spans, and nothing is decoded or copied here.
func (c *otlpClient) upload(ctx context.Context, resourceSpans []byte, _ int) (rejected int64, err error) {
	message := &tracepb.ResourceSpans{}
	message.ProtoReflect().SetUnknown(resourceSpans)
	err = c.client.UploadTraces(context.WithValue(ctx, rejectedKey{}, &rejected), []*tracepb.ResourceSpans{message})
	if rejected > 0 {
		return rejected, nil // the rest was taken; the error says only that
	}
	return 0, err
}

func (c *otlpClient) close(ctx context.Context) error {
	if err := c.client.Stop(ctx); err != nil {
		return fmt.Errorf("close the connection to the OTLP endpoint: %w", err)
	}
	return nil
}

// endpointName is what messages call the endpoint.
func endpointName(endpoint string, getenv func(string) string) string {
	for _, name := range []string{endpoint, getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT")} {
		if name != "" {
			_, host, found := strings.Cut(name, "://")
			if !found {
				host = name
			}
			return strings.TrimRight(host, "/")
		}
	}
	return "localhost:4317"
}
