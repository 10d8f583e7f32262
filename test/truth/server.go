package truth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// ServerPlan is what a server does.
type ServerPlan struct {
	Listen      string // address
	Certificate string // file to put the certificate into with which it serves TLS; "" without
	Helper      bool   // tell otel-kprobe by package otelkprobe
	Dir         string // for a file of each request's body, which it flushes; "" without
}

// server is a ServerPlan that is being carried out.
type server struct {
	plan   ServerPlan
	tracer trace.Tracer
	book   book
}

// connKey is where the context of a request has its *countedConn.
type connKey struct{}

// RunServer serves until ctx is done, and gives its log. It calls ready once it
// listens.
func RunServer(ctx context.Context, plan ServerPlan, ready func(address string)) (log Log, err error) {
	s := &server{plan: plan}
	k := newTies(plan.Helper)
	p := sdktrace.NewTracerProvider(k.providerOptions()...)
	defer func() { _ = p.Shutdown(context.WithoutCancel(ctx)) }() // it has nothing to flush
	s.tracer = p.Tracer("truth")
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", plan.Listen)
	if err != nil {
		return Log{}, fmt.Errorf("listen: %w", err)
	}
	h := &http.Server{
		Handler: http.HandlerFunc(s.serve),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, counted(conn))
		},
		ConnState: func(conn net.Conn, to http.ConnState) {
			if c := counted(conn); c != nil && (to == http.StateIdle || to == http.StateClosed) {
				c.end()
			}
		},
	}
	k.serve(h)
	serve := func() error { return h.Serve(countedListener{listener, &s.book}) }
	if plan.Certificate != "" {
		if h.TLSConfig, err = ownCertificate(plan.Certificate); err != nil {
			return Log{}, errors.Join(err, listener.Close())
		}
		serve = func() error { return h.ServeTLS(countedListener{listener, &s.book}, "", "") }
	}
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	ready(listener.Addr().String())
	<-ctx.Done()
	err = h.Shutdown(context.WithoutCancel(ctx))
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return s.book.finish(), err
}

// countedListener counts the bytes of what it accepts.
type countedListener struct {
	net.Listener
	book *book
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.book.add(newCountedConn(conn, true)), nil
}

// serve reads a request's body, stores it when it is told to, and answers with as many
// bytes as the request asks for.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.URL.Query().Get("request"))
	size, sizeErr := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if err := errors.Join(err, sizeErr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, ok := r.Context().Value(connKey{}).(*countedConn)
	if !ok || conn == nil {
		http.Error(w, "the connection is not counted", http.StatusInternalServerError)
		return
	}
	conn.begin(number)
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	_, span := s.tracer.Start(ctx, "answer", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	e := Exchange{Request: number, TraceID: span.SpanContext().TraceID().String(), ServerSpan: span.SpanContext().SpanID().String()}
	if e.File, err = s.take(number, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	conn.received()
	s.book.exchange(e)
	if number%2 == 0 { // every other answer is chunked
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	_, _ = io.CopyN(w, zeros{}, size) // a client that has gone says so itself
}

// take reads a body to its end; with a directory into a file there, which is on the
// disk when it returns.
func (s *server) take(number int, body io.Reader) (path string, err error) {
	if s.plan.Dir == "" {
		_, err := io.Copy(io.Discard, body)
		return "", err
	}
	path = filepath.Join(s.plan.Dir, strconv.Itoa(number))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, body)
	if err == nil {
		err = f.Sync()
	}
	return path, errors.Join(err, f.Close())
}

// zeros is an endless file of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
