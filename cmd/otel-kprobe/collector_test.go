package main

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// collector is a receiver of OTLP within the test. It decodes what arrives with
// the usual codec.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	address string
	server  *grpc.Server
	// answer gives the answer to the n-th message, from 1; nil takes all.
	answer func(n int) (*coltracepb.ExportTraceServiceResponse, error)

	mu           sync.Mutex
	messages     int
	spans        []*tracepb.Span // of the messages that were taken
	resources    []*tracepb.ResourceSpans
	headers      metadata.MD // of the last message
	compressions []string
	largest      int // bytes of a message
}

// startCollector listens on a free port of the loopback interface.
func startCollector(t *testing.T, certificate *tls.Certificate, answer func(n int) (*coltracepb.ExportTraceServiceResponse, error)) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: listener.Addr().String(), answer: answer}
	options := []grpc.ServerOption{grpc.StatsHandler(c)}
	if certificate != nil {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(certificate)))
	}
	c.server = grpc.NewServer(options...)
	coltracepb.RegisterTraceServiceServer(c.server, c)
	done := make(chan error, 1)
	go func() { done <- c.server.Serve(listener) }()
	t.Cleanup(func() {
		c.server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements the collector service.
func (c *collector) Export(ctx context.Context, request *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages++
	c.headers, _ = metadata.FromIncomingContext(ctx)
	if c.answer != nil {
		response, err := c.answer(c.messages)
		if err != nil || response != nil {
			return response, err
		}
	}
	for _, resource := range request.GetResourceSpans() {
		c.resources = append(c.resources, resource)
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// HandleRPC implements stats.Handler.
func (c *collector) HandleRPC(_ context.Context, s stats.RPCStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := s.(type) {
	case *stats.InHeader:
		c.compressions = append(c.compressions, s.Compression)
	case *stats.InPayload:
		c.largest = max(c.largest, s.Length)
	}
}

// TagRPC implements stats.Handler.
func (c *collector) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (c *collector) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (c *collector) HandleConn(context.Context, stats.ConnStats) {}

// freePort is an address where nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// soon is a bound for what must not last.
const soon = 10 * time.Second
