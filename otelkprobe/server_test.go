package otelkprobe_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
	"github.com/otel-kprobe/otel-kprobe/otelkprobe/spanprocessor"
)

// spanned runs a handler in the span that the request's header names, as
// instrumentation does that knows otelkprobe.ServerSpans.
func spanned(spans *otelkprobe.ServerSpans, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var n uint64
		_, _ = fmt.Sscan(r.Header.Get(headerX), &n)
		w.Header().Set(headerX, fmt.Sprint(n))
		spans.Started(r.Context(), spanContext(n))
		defer spans.Ended(spanContext(n))
		handler(w, r.WithContext(trace.ContextWithSpanContext(r.Context(), spanContext(n))))
	}
}

// listenTo starts a server that is known to the listener.
func listenTo(t *testing.T, l *listener, handler http.Handler, change func(*httptest.Server)) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	if change != nil {
		change(server)
	}
	otelkprobe.ServerTo(l.note, server.Config)
	if server.EnableHTTP2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// ask makes a request of a span.
func ask(client *http.Client, span uint64, url string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set(headerX, fmt.Sprint(span))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestServer expects a connection to belong to the span of each request, until the
// answer to it has been sent.
func TestServer(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, large) }
	one := []string{"answers 1", "lingers 1", "releases 1"}
	for _, test := range []struct {
		name    string
		handler func(*otelkprobe.ServerSpans) http.HandlerFunc
		want    []string
	}{
		{"one span", func(s *otelkprobe.ServerSpans) http.HandlerFunc { return spanned(s, answer) }, one},
		{"one in the other", func(s *otelkprobe.ServerSpans) http.HandlerFunc {
			return spanned(s, func(w http.ResponseWriter, r *http.Request) {
				s.Started(r.Context(), spanContext(9))
				s.Ended(spanContext(9))
				answer(w, r)
			})
		}, one},
		{"one beside the other", func(s *otelkprobe.ServerSpans) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				spanned(s, func(http.ResponseWriter, *http.Request) {
					s.Started(r.Context(), spanContext(9))
					s.Ended(spanContext(9))
				})(w, r)
				s.Started(r.Context(), spanContext(2))
				s.Ended(spanContext(2))
			}
		}, []string{"answers 1", "lingers 1", "answers 2", "lingers 2", "releases 2"}},
		{"span that does not end", func(s *otelkprobe.ServerSpans) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) { s.Started(r.Context(), spanContext(1)) }
		}, []string{"answers 1", "releases 1"}},
		{"no span", func(*otelkprobe.ServerSpans) http.HandlerFunc { return answer }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, spans := newListener(), new(otelkprobe.ServerSpans)
			var states []http.ConnState
			idle := make(chan struct{}, 1)
			server := listenTo(t, l, test.handler(spans), func(s *httptest.Server) {
				s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
					if states = append(states, to); to == http.StateIdle {
						idle <- struct{}{}
					}
				}
			})
			if err := ask(server.Client(), 1, server.URL); err != nil {
				t.Fatal(err)
			}
			<-idle
			if diff := cmp.Diff(test.want, l.take()); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
			if n := spans.Served(); n != 0 {
				t.Errorf("%d connections are remembered", n)
			}
			if diff := cmp.Diff([]http.ConnState{http.StateNew, http.StateActive, http.StateIdle}, states); diff != "" {
				t.Errorf("what the server's own hook sees (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServerProcessor expects the SDK's processor to bind server spans, and no others.
func TestServerProcessor(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spanprocessor.New()))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	tracer := provider.Tracer("")
	for kind, bound := range map[trace.SpanKind]bool{trace.SpanKindServer: true, trace.SpanKindInternal: false} {
		var id trace.SpanID
		l, idle := newListener(), make(chan struct{}, 1)
		server := listenTo(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, span := tracer.Start(r.Context(), "request", trace.WithSpanKind(kind))
			defer span.End()
			id = span.SpanContext().SpanID()
		}), func(s *httptest.Server) {
			s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
				if to == http.StateIdle {
					idle <- struct{}{}
				}
			}
		})
		if err := ask(server.Client(), 0, server.URL); err != nil {
			t.Fatal(err)
		}
		<-idle
		var want []string
		if n := binary.BigEndian.Uint64(id[:]); bound {
			want = []string{fmt.Sprint("answers ", n), fmt.Sprint("lingers ", n), fmt.Sprint("releases ", n)}
		}
		if diff := cmp.Diff(want, l.take()); diff != "" {
			t.Errorf("statements of a span of kind %v (-want +got):\n%s", kind, diff)
		}
	}
}

// TestServerNotBound expects nothing of connections that many requests share, and of
// spans that start when there is no request.
func TestServerNotBound(t *testing.T) {
	spans := new(otelkprobe.ServerSpans)
	handler := spanned(spans, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "x") })
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	for name, change := range map[string]func(*httptest.Server){
		"HTTP/2":             func(s *httptest.Server) { s.EnableHTTP2 = true },
		"HTTP/2 without TLS": func(s *httptest.Server) { s.Config.Protocols = protocols },
	} {
		l := newListener()
		server := listenTo(t, l, handler, change)
		if err := ask(server.Client(), 1, server.URL); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if diff := cmp.Diff([]string(nil), l.take()); diff != "" {
			t.Errorf("statements of %s (-want +got):\n%s", name, diff)
		}
	}
	l, idle, late := newListener(), make(chan struct{}, 1), context.Context(nil)
	server := listenTo(t, l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { late = r.Context() }),
		func(s *httptest.Server) {
			s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
				if to == http.StateIdle {
					idle <- struct{}{}
				}
			}
		})
	if err := ask(server.Client(), 0, server.URL); err != nil {
		t.Fatal(err)
	}
	<-idle
	spans.Started(late, spanContext(1))
	if diff := cmp.Diff([]string(nil), l.take()); diff != "" {
		t.Errorf("statements after the request (-want +got):\n%s", diff)
	}
}

// TestServerHijacked expects a connection that the handler took to be nobody's.
func TestServerHijacked(t *testing.T) {
	l, spans := newListener(), new(otelkprobe.ServerSpans)
	server := listenTo(t, l, spanned(spans, answering().ServeHTTP), nil)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET /switch HTTP/1.1\r\nHost: x\r\n%s: 1\r\n\r\nhello\n", headerX)
	all, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil || !strings.HasSuffix(string(all), "hello\n") {
		t.Errorf("the other protocol gives %q, %v", all, err)
	}
	if diff := cmp.Diff([]string{"answers 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// watching is a net.Listener whose connections are watched.
type watching struct {
	net.Listener
	t *testing.T
	l *listener
}

func (w watching) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watched{Conn: conn, t: w.t, l: w.l}, nil
}

// TestServerConcurrent expects every answer to be written in its request's span, though
// small ones are flushed after that has ended.
func TestServerConcurrent(t *testing.T) {
	l, spans := newListener(), new(otelkprobe.ServerSpans)
	server := listenTo(t, l, spanned(spans, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, strings.Repeat("x", 1+len(r.URL.Path)*len(r.URL.Path)*100))
	}), func(s *httptest.Server) { s.Listener = watching{s.Listener, t, l} })
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 8
	var last atomic.Uint64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n := last.Add(1)
				if err := ask(client, n, server.URL+"/"+strings.Repeat("y", int(n%20))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	server.Close()
	said := l.take()
	for deadline := time.Now().Add(5 * time.Second); spans.Served() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are remembered", spans.Served())
		}
	}
	for _, word := range []string{"answers", "lingers"} {
		if n := len(only(slices.Clone(said), word)); n != 800 {
			t.Errorf("%d statements say %s, want 800", n, word)
		}
	}
}
