package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"
)

// dialer opens the connections to the OTLP endpoint. The address is as gRPC has
// it: host:port, or unix:PATH.
type dialer func(ctx context.Context, address string) (net.Conn, error)

// reconnectWithin bounds the wait between two attempts to connect to a receiver that
// was away; with gRPC's own two minutes the spans of two minutes are lost
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md).
const reconnectWithin = 10 * time.Second

// otlpClient sends encoded spans through the official client, so that endpoint,
// TLS, headers, compression, time-out and retries are its own, and with them
// every OTEL_EXPORTER_OTLP_* variable. Methods may be called concurrently.
type otlpClient struct {
	client otlptrace.Client
	logger *slog.Logger

	mu      sync.Mutex
	failure error  // of the last upload that failed
	warning string // the last one that the receiver gave
}

// newOTLPClient makes a client for endpoint, a URL, or for what the environment
// says when endpoint is empty. It connects when the first spans are sent.
func newOTLPClient(ctx context.Context, endpoint string, getenv func(string) string, dial dialer, logger *slog.Logger) (*otlpClient, error) {
	// What the client says of variables that it can't read goes our way, too.
	otel.SetLogger(logr.FromSlogHandler(logger.Handler()))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("OpenTelemetry client", "error", err) }))
	options := []otlptracegrpc.Option{otlptracegrpc.WithDialOption(dialOptions(keepAnswer, dial)...)}
	client := otlptracegrpc.NewClient(append(options, endpointOptions(endpoint, getenv)...)...)
	if err := client.Start(ctx); err != nil {
		return nil, usageErrorf("connect to the OTLP endpoint %s: %w", endpointName(endpoint, getenv), err)
	}
	return &otlpClient{client: client, logger: logger}, nil
}

// dialOptions are those of a connection to the receiver, nil for the usual dialer. They
// have to be given all at once: of several WithDialOption the last one holds.
func dialOptions(answers grpc.UnaryClientInterceptor, dial dialer) []grpc.DialOption {
	wait := backoff.DefaultConfig
	wait.MaxDelay = reconnectWithin
	options := []grpc.DialOption{
		grpc.WithUnaryInterceptor(answers),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: reconnectWithin}),
	}
	if dial != nil {
		options = append(options, grpc.WithContextDialer(dial))
	}
	return options
}

// answer is what a receiver said of a message.
type answer struct {
	taken    bool // perhaps in part
	rejected int64
	message  string // a reason or a warning
}

// answerKey carries an *answer in a context: where keepAnswer writes.
type answerKey struct{}

// keepAnswer notes what a receiver said of a message that it took: how many
// spans it refused, and why, or a warning
// (https://opentelemetry.io/docs/specs/otlp/#partial-success).
func keepAnswer(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	kept, wanted := ctx.Value(answerKey{}).(*answer)
	response, ok := reply.(*coltracepb.ExportTraceServiceResponse)
	if err == nil && wanted && ok {
		partial := response.GetPartialSuccess()
		*kept = answer{taken: true, rejected: partial.GetRejectedSpans(), message: partial.GetErrorMessage()}
	}
	return err
}

// upload is an export.Upload. The bytes travel as unknown fields, which the
// marshaller copies as they are: to the server they are ordinary spans, and
// nothing is decoded or copied here.
func (c *otlpClient) upload(ctx context.Context, resourceSpans [][]byte, _ int) (rejected int64, err error) {
	messages := make([]*tracepb.ResourceSpans, len(resourceSpans))
	for i, content := range resourceSpans {
		messages[i] = &tracepb.ResourceSpans{}
		messages[i].ProtoReflect().SetUnknown(content)
	}
	var got answer
	err = c.client.UploadTraces(context.WithValue(ctx, answerKey{}, &got), messages)
	switch {
	case !got.taken:
		err = plainError(err)
		c.keepFailure(err)
		return 0, err
	case got.rejected > 0:
		err = fmt.Errorf("receiver rejects spans: %s", got.message)
		c.keepFailure(err)
		return got.rejected, err
	case got.message != "":
		c.warn(got.message)
	}
	return 0, nil // a warning of the receiver is no error, as the client has it
}

// plainError gives what a status of gRPC says without its wrapping.
func plainError(err error) error {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return err
	}
	s := carrier.GRPCStatus()
	return fmt.Errorf("%s: %s", s.Code(), s.Message())
}

func (c *otlpClient) keepFailure(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
}

// lastFailure is why the last spans that were lost were lost, nil if none were.
func (c *otlpClient) lastFailure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// warn shows a warning of the receiver when it is another than the last one.
func (c *otlpClient) warn(message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if message != c.warning {
		c.warning = message
		c.logger.Warn("the OTLP receiver warns", "message", message)
	}
}

// close ends the connection.
func (c *otlpClient) close(ctx context.Context) error {
	if err := c.client.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("close the connection to the OTLP endpoint: %w", err)
	}
	return nil // that the time was over, the lost spans tell
}
