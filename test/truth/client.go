package truth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// ClientPlan is what a client does.
type ClientPlan struct {
	Target      string // http://ADDRESS or https://ADDRESS
	Trust       string // file with the server's certificate, for https
	Helper      bool   // tell otel-kprobe by package otelkprobe
	Requests    int
	Concurrency int
	Seed        uint64 // of sizes and of which requests get a connection of their own
	MaxBytes    int64  // of a request's body and of an answer's; 0: none has one
	Store       bool   // have the server write each body to a file
	PauseNs     int64  // how long each worker waits between two requests
}

// requestWithin bounds one request, under emulation and with every packet traced.
const requestWithin = 2 * time.Minute

// client is a ClientPlan that is being carried out.
type client struct {
	plan   ClientPlan
	ties   ties
	tracer trace.Tracer
	tls    *tls.Config
	book   book
	shared *http.Client
	port   atomic.Uint32 // the last one, from firstPort on
}

// RunClient sends all requests and gives its log. Each is in a span of its own, the
// root of its trace.
func RunClient(ctx context.Context, plan ClientPlan) (Log, error) {
	c := &client{plan: plan, ties: newTies(plan.Helper)}
	c.port.Store(rand.Uint32N(ports))
	p := sdktrace.NewTracerProvider(c.ties.providerOptions()...)
	defer func() { _ = p.Shutdown(context.WithoutCancel(ctx)) }() // it has nothing to flush
	c.tracer = p.Tracer("truth")
	if plan.Trust != "" {
		text, err := os.ReadFile(plan.Trust)
		if err != nil {
			return Log{}, fmt.Errorf("read the certificate: %w", err)
		}
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: serverName}
		if !c.tls.RootCAs.AppendCertsFromPEM(text) {
			return Log{}, errors.New("read the certificate: there is none in the file")
		}
	}
	c.shared = c.newClient()
	defer c.shared.CloseIdleConnections()
	due := make(chan exchangePlan)
	var workers sync.WaitGroup
	failures := make(chan error, plan.Concurrency)
	for range plan.Concurrency {
		workers.Go(func() {
			var first error
			for e := range due {
				if err := c.exchange(ctx, e); err != nil && first == nil {
					first = fmt.Errorf("request %d: %w", e.request, err)
				}
				time.Sleep(time.Duration(plan.PauseNs))
			}
			failures <- first
		})
	}
	for _, e := range plan.exchanges() {
		due <- e
	}
	close(due)
	workers.Wait()
	close(failures)
	var err error
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return c.book.finish(), err
}

// exchangePlan is one request.
type exchangePlan struct {
	request      int
	body, answer int64
	ownConn      bool // on a connection of its own
	closes       bool // which the server is to close, by a header
}

// exchanges draws sizes: most bodies are small, the largest have MaxBytes.
func (p ClientPlan) exchanges() []exchangePlan {
	random := rand.New(rand.NewPCG(p.Seed, 1))
	size := func() int64 {
		share := []float64{0, 0, 0.0005, 0.005, 0.02, 0.06, 0.3, 1}
		return int64(share[random.IntN(len(share))] * float64(p.MaxBytes) * (0.5 + random.Float64()/2))
	}
	all := make([]exchangePlan, p.Requests)
	for i := range all {
		own := random.IntN(3) == 0
		all[i] = exchangePlan{request: i + 1, body: size(), answer: size(), ownConn: own, closes: own && p.Trust == "" && random.IntN(2) == 0}
	}
	if p.Requests > 0 {
		all[0].body, all[p.Requests-1].answer = p.MaxBytes, p.MaxBytes
	}
	return all
}

// newClient makes a client with connections of its own.
func (c *client) newClient() *http.Client {
	return &http.Client{Timeout: requestWithin, Transport: c.ties.transport(&http.Transport{
		TLSClientConfig:     c.tls,
		MaxIdleConnsPerHost: c.plan.Concurrency,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := c.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			known := newCountedConn(conn, false)
			known.log.DialledFor, _ = ctx.Value(requestKey{}).(int)
			return c.book.add(known), nil
		},
	})}
}

// dial connects from a port that no other connection of the client has had: the kernel
// might give one twice, and nobody could tell the packets of both apart.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	for {
		port := firstPort + int(c.port.Add(1)%ports)
		d := net.Dialer{Timeout: requestWithin, LocalAddr: &net.TCPAddr{Port: port}}
		conn, err := c.ties.dial(&d)(ctx, network, address)
		if !errors.Is(err, syscall.EADDRINUSE) { // by an earlier client
			return conn, err
		}
	}
}

// The ports of clients: below those that the kernel gives out by itself.
const (
	firstPort = 10_000
	ports     = 22_000
)

// requestKey is where a request's context has its number.
type requestKey struct{}

// exchange sends one request and reads its answer.
func (c *client) exchange(ctx context.Context, e exchangePlan) (err error) {
	sender := c.shared
	if e.ownConn {
		sender = c.newClient()
		defer sender.CloseIdleConnections() // when the span has ended: it is no part of it
	}
	ctx, span := c.tracer.Start(context.WithValue(ctx, requestKey{}, e.request), "request", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	c.book.exchange(Exchange{
		Request: e.request,
		TraceID: span.SpanContext().TraceID().String(), ClientSpan: span.SpanContext().SpanID().String(),
	})
	var conn *countedConn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if conn = counted(info.Conn); conn != nil {
			conn.begin(e.request)
		}
	}})
	url := fmt.Sprintf("%s/?request=%d&size=%d", c.plan.Target, e.request, e.answer)
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if e.body > 0 || c.plan.Store {
		method, body = http.MethodPost, bytes.NewReader(make([]byte, e.body))
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	r.Close = e.closes
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	answer, err := sender.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if conn == nil {
		return errors.Join(err, errors.New("it had a connection that is not counted"))
	}
	conn.endOf(e.request)
	if err == nil && (answer.StatusCode != http.StatusOK || n != e.answer) {
		err = fmt.Errorf("answer %s with %d bytes, want %d", answer.Status, n, e.answer)
	}
	return err
}
