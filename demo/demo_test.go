package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
)

// stack is a front and a back in this process, and the spans that both have made.
type stack struct {
	front string // URL
	store *store
	spans *tracetest.SpanRecorder
	p     *sdktrace.TracerProvider
}

func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{spans: tracetest.NewSpanRecorder()}
	s.p = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	var err error
	if s.store, err = newStore(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	back := httptest.NewServer(backHandler(slog.New(slog.DiscardHandler), s.store, time.Millisecond, s.p))
	t.Cleanup(back.Close)
	client, err := newClient(clientOptions{target: back.URL, keepAlive: true}, &kernelTies{helper: true}, s.p, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	front := httptest.NewServer(frontHandler(client, back.URL, s.p))
	t.Cleanup(front.Close)
	s.front = front.URL
	return s
}

func TestRequests(t *testing.T) {
	defer goleak.VerifyNone(t)
	type answer struct {
		Status int
		Body   string
		Spans  []string // in the order of their ends
	}
	tests := []struct {
		name, method, path, body string
		want                     answer
	}{
		{"root", "GET", "/", "", answer{200, strings.Repeat("x", 1000), []string{"GET /echo", "HTTP GET", "GET /{$}"}}},
		{"order", "POST", "/order", "thing", answer{200, "stored 5 bytes\n", []string{"POST /store", "HTTP POST", "POST /order"}}},
		{"sized order", "GET", "/order?size=70", "", answer{200, "stored 70 bytes\n", []string{"GET /store", "HTTP GET", "GET /order"}}},
		{"slow", "GET", "/slow", "", answer{200, "waited 1ms\n", []string{"GET /slow", "HTTP GET", "GET /slow"}}},
		{"error", "GET", "/error", "", answer{500, "this always fails\n", []string{"GET /error", "HTTP GET", "GET /error"}}},
		{"too much", "GET", "/order?size=99999999999", "", answer{400, "size is a number from 0 to 67108864\n", []string{"GET /order"}}},
		{"health", "GET", "/healthz", "", answer{200, "ok\n", nil}},
		{"nothing there", "GET", "/other", "", answer{404, "404 page not found\n", nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t)
			r, err := http.NewRequestWithContext(t.Context(), tt.method, s.front+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer http.DefaultClient.CloseIdleConnections()
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := answer{Status: response.StatusCode, Body: string(body), Spans: s.waitNames(t, len(tt.want.Spans))}
			slices.Sort(got.Spans)
			slices.Sort(tt.want.Spans)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s.checkOneTrace(t)
		})
	}
}

// waitNames are the names of the spans that have ended. A server's span ends after
// the client has its answer.
func (s *stack) waitNames(t *testing.T, count int) (names []string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(s.spans.Ended()) < count; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d spans have ended, want %d", len(s.spans.Ended()), count)
		}
	}
	for _, span := range s.spans.Ended() {
		names = append(names, span.Name())
	}
	return names
}

// checkOneTrace expects the back to have gone on with the front's trace.
func (s *stack) checkOneTrace(t *testing.T) {
	t.Helper()
	traces := map[string]int{}
	for _, span := range s.spans.Ended() {
		traces[span.SpanContext().TraceID().String()]++
	}
	if len(s.spans.Ended()) > 0 && len(traces) != 1 {
		t.Errorf("spans of one request are in %d traces: %v", len(traces), traces)
	}
}

// TestStoreIsBounded expects the oldest files to be removed.
func TestStoreIsBounded(t *testing.T) {
	s, err := newStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for range keptFiles + 3 {
		if _, err := s.put(strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != keptFiles {
		t.Errorf("%d files are kept, want %d", len(files), keptFiles)
	}
	if err := s.clear(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestMix(t *testing.T) {
	var m mix
	for _, text := range []string{"", "root", "root=-1", "root=0", "other=1", "root=1,", "root=1001"} {
		if err := m.Set(text); err == nil {
			t.Errorf("%q is taken for a mix", text)
		}
	}
	if err := m.Set("order=2,slow=0,error=1"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for at := range 3 {
		got = append(got, m.pick(func(total int) int {
			if total != 3 {
				t.Errorf("a number below %d is asked for, want 3", total)
			}
			return at
		}))
	}
	if diff := cmp.Diff([]string{"order", "order", "error"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if m.String() != "order=2,slow=0,error=1" {
		t.Errorf("the mix reads %q", m.String())
	}
}

// TestLoad expects the load generator to send each kind, in traces of their own, and
// to end by itself.
func TestLoad(t *testing.T) {
	s := newStack(t)
	client, err := newClient(clientOptions{target: s.front, keepAlive: true}, &kernelTies{helper: true}, s.p, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	l := &load{
		options: loadOptions{
			rate: 500, concurrency: 2, duration: time.Second, size: 10,
			mix: mix{{"root", 1}, {"order", 1}, {"error", 1}},
		},
		client: client, target: s.front, log: slog.New(slog.DiscardHandler),
	}
	if err := l.options.check(); err != nil {
		t.Fatal(err)
	}
	l.run(t.Context())
	if l.sent.Load() == 0 || l.failed.Load() != 0 {
		t.Fatalf("%d requests were sent, %d failed", l.sent.Load(), l.failed.Load())
	}
	routes, roots := map[attribute.Value]int{}, uint64(0)
	for _, span := range s.spans.Ended() {
		if !span.Parent().IsValid() {
			roots++
		}
		for _, a := range span.Attributes() {
			if a.Key == "http.route" {
				routes[a.Value]++
			}
		}
	}
	if roots != l.sent.Load() {
		t.Errorf("%d traces of %d requests", roots, l.sent.Load())
	}
	for _, route := range []string{"/{$}", "/order", "/error"} {
		if routes[attribute.StringValue(route)] == 0 {
			t.Errorf("no request came to %s: %v", route, routes)
		}
	}
}

// TestServe serves TLS with a certificate of its own, with HTTP/2 or without, to a
// client that trusts it, and ends when it is told to.
func TestServe(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, http2 := range []bool{false, true} {
		path := t.TempDir() + "/certificate"
		address := freeAddress(t)
		p := sdktrace.NewTracerProvider()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- serve(ctx, slog.New(slog.DiscardHandler), serverOptions{listen: address, tls: path, http2: http2}, &kernelTies{helper: true},
				newMux())
		}()
		proto := healthProtocol(t, clientOptions{target: "https://" + address, trust: path, http2: http2}, p)
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; proto != want {
			t.Errorf("the server speaks %s, want %s", proto, want)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.Listener.Addr().String()
}

// healthProtocol waits until a server says that it is well, and in which protocol.
func healthProtocol(t *testing.T, o clientOptions, p *sdktrace.TracerProvider) string {
	t.Helper()
	var last error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		client, err := newClient(o, &kernelTies{helper: true}, p, 1)
		if err != nil {
			last = err // the certificate is not there yet
			continue
		}
		response, err := client.Get(o.target + "/healthz")
		if err != nil {
			last = err
			continue
		}
		_ = response.Body.Close() // it has been looked at
		client.CloseIdleConnections()
		if response.StatusCode != http.StatusOK {
			t.Errorf("the server's health: %s", response.Status)
		}
		return response.Proto
	}
	t.Fatalf("the server does not answer: %v", last)
	return ""
}
