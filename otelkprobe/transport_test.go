package otelkprobe_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// answering serves what the tests of one connection need.
func answering() *http.ServeMux {
	mux := http.NewServeMux()
	large := bytes.Repeat([]byte("x"), 100_000)
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(large)
	})
	mux.HandleFunc("/small", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "x") })
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/small", http.StatusFound)
	})
	mux.HandleFunc("/zipped", func(w http.ResponseWriter, _ *http.Request) {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(large)
		_ = z.Close()
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(zipped.Len()))
		_, _ = w.Write(zipped.Bytes())
	})
	mux.HandleFunc("/gone", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = fmt.Fprint(w, "x")
	})
	mux.HandleFunc("/switch", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = fmt.Fprint(conn, line)
	})
	return mux
}

// do makes a request, reads the response to its end, and closes it.
func do(ctx context.Context, client *http.Client, method, url string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// TestTransport expects each request to have its connection while it lasts.
func TestTransport(t *testing.T) {
	for _, test := range []struct {
		name, method, path string
		body               bool
		want               []string
		fails              bool
	}{
		{name: "read to its end", path: "/large", want: []string{"binds 1", "releases 1"}},
		{name: "small", path: "/small", want: []string{"binds 1", "releases 1"}},
		{name: "unpacked", path: "/zipped", want: []string{"binds 1", "releases 1"}},
		{name: "early hints", path: "/early", want: []string{"binds 1", "releases 1"}},
		{name: "without a body", path: "/empty", want: []string{"binds 1", "releases 1"}},
		{name: "head", method: http.MethodHead, path: "/large", want: []string{"binds 1", "releases 1"}},
		{name: "continued", method: http.MethodPost, path: "/large", body: true, want: []string{"binds 1", "releases 1"}},
		{name: "redirected", path: "/elsewhere", want: []string{"binds 1", "releases 1", "binds 1", "releases 1"}},
		{name: "closed by the server", path: "/gone", want: []string{"binds 1"}, fails: true},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", test.name, secure), func(t *testing.T) {
				l := newListener()
				client, url := serve(t, l, secure, false)
				var body io.Reader
				if test.body {
					body = strings.NewReader(strings.Repeat("y", 100_000))
				}
				err := do(in(t.Context(), 1), client, test.method, url+test.path, body)
				if (err != nil) != test.fails {
					t.Fatalf("the request gives %v", err)
				}
				got := l.take()
				if test.fails { // whether the connection is closed yet is a race
					got = only(got, "binds")
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("statements (-want +got):\n%s", diff)
				}
				if n := otelkprobe.Held(client.Transport); n != 0 {
					t.Errorf("%d connections are held", n)
				}
			})
		}
	}
}

// serve starts a server and gives a client whose transport is the package's.
func serve(t *testing.T, l *listener, secure, http2 bool) (*http.Client, string) {
	server := httptest.NewUnstartedServer(answering())
	server.EnableHTTP2 = http2
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	base := server.Client().Transport.(*http.Transport).Clone()
	base.DialContext = otelkprobe.DialContextTo(l.note, &net.Dialer{})
	client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, base)}
	t.Cleanup(func() { client.CloseIdleConnections(); server.Close() })
	return client, server.URL
}

// TestTransportReuse expects a connection that is kept to go from span to span, and to
// none for a request without one.
func TestTransportReuse(t *testing.T) {
	l := newListener()
	client, url := serve(t, l, false, false)
	var reused []bool
	for _, span := range []uint64{1, 2, 0, 3} {
		ctx := httptrace.WithClientTrace(in(t.Context(), span), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = append(reused, info.Reused) },
		})
		if err := do(ctx, client, "", url+"/large", nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]bool{false, true, true, true}, reused); diff != "" {
		t.Errorf("what the caller's own trace sees of reuse (-want +got):\n%s", diff)
	}
	want := []string{"binds 1", "releases 1", "binds 2", "releases 2", "binds 3", "releases 3"}
	if diff := cmp.Diff(want, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportClosedEarly expects nothing to be held when a body is closed before its
// end, or its context ends and nobody closes it.
func TestTransportClosedEarly(t *testing.T) {
	l := newListener()
	client, url := serve(t, l, false, false)
	for _, way := range []string{"close", "cancel"} {
		ctx, cancel := context.WithCancel(in(t.Context(), 1))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/large", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if n := otelkprobe.Held(client.Transport); n != 1 {
			t.Errorf("%s: %d connections are held, want 1", way, n)
		}
		if way == "close" {
			_ = resp.Body.Close()
		}
		cancel()
		for deadline := time.Now().Add(5 * time.Second); otelkprobe.Held(client.Transport) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: a connection is held", way)
			}
		}
		_ = resp.Body.Close()
	}
}

// TestTransportIdle expects a connection to be released when net/http has it back, where
// the caller has not seen the body's end: unpacking reads ahead of it.
func TestTransportIdle(t *testing.T) {
	l := newListener()
	client, url := serve(t, l, false, false)
	req, err := http.NewRequestWithContext(in(t.Context(), 1), http.MethodGet, url+"/zipped", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportSwitched expects a connection that speaks another protocol to be
// nobody's, and its body to be writable still.
func TestTransportSwitched(t *testing.T) {
	l := newListener()
	client, url := serve(t, l, false, false)
	req, err := http.NewRequestWithContext(in(t.Context(), 1), http.MethodGet, url+"/switch", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if diff := cmp.Diff([]string{"binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body is a %T, which cannot be written to", resp.Body)
	}
	_, _ = fmt.Fprintln(rw, "hello")
	if line, err := bufio.NewReader(rw).ReadString('\n'); line != "hello\n" {
		t.Errorf("the other protocol gives %q, %v", line, err)
	}
}

// TestTransportHTTP2 expects a shared connection to be bound for its handshake only.
func TestTransportHTTP2(t *testing.T) {
	l := newListener()
	client, url := serve(t, l, true, true)
	for _, span := range []uint64{1, 2} {
		if err := do(in(t.Context(), span), client, "", url+"/small", nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportHTTP2WithoutTLS expects the same where the transport speaks nothing else.
func TestTransportHTTP2WithoutTLS(t *testing.T) {
	l := newListener()
	both, one := new(http.Protocols), new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	one.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(answering())
	server.Config.Protocols = both
	server.Start()
	defer server.Close()
	for _, test := range []struct {
		protocols *http.Protocols
		want      []string
	}{
		{one, nil},
		{both, []string{"binds 1", "releases 1"}},
	} {
		client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, &http.Transport{Protocols: test.protocols})}
		if err := do(in(t.Context(), 1), client, "", server.URL+"/small", nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, l.take()); diff != "" {
			t.Errorf("statements with %v (-want +got):\n%s", test.protocols, diff)
		}
		client.CloseIdleConnections()
	}
}

// TestTransportUnknownBase expects that what a base says of HTTP/2 is remembered.
func TestTransportUnknownBase(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(answering())
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, roundTripper(func(req *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{Conn: conn})
		return &http.Response{ProtoMajor: 2, StatusCode: 200, Body: io.NopCloser(strings.NewReader("x"))}, nil
	}))}
	for _, span := range []uint64{1, 2} {
		if err := do(in(t.Context(), span), client, "", server.URL, nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportAgain expects a base that sends a request twice to have a connection bound
// both times.
func TestTransportAgain(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(answering())
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		return base.RoundTrip(req)
	}))}
	if err := do(in(t.Context(), 1), client, "", server.URL+"/small", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"binds 1", "releases 1", "binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportWithoutSocket expects nothing of a connection that has none.
func TestTransportWithoutSocket(t *testing.T) {
	l := newListener()
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, roundTripper(func(req *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{Conn: one})
		return &http.Response{ProtoMajor: 1, StatusCode: 200, Body: io.NopCloser(strings.NewReader("x"))}, nil
	}))}
	if err := do(in(t.Context(), 1), client, "", "http://localhost", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string(nil), l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// TestTransportDefault expects the base that a transport makes itself to bind while it
// dials: a connection that is refused, too.
func TestTransportDefault(t *testing.T) {
	l := newListener()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	client := &http.Client{Transport: otelkprobe.NewTransportTo(l.note, nil)}
	if err := do(in(t.Context(), 1), client, "", "http://"+refusing.Addr().String(), nil); err == nil {
		t.Fatal("the connection was not refused")
	}
	if diff := cmp.Diff([]string{"binds 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if n := otelkprobe.Held(client.Transport); n != 0 {
		t.Errorf("%d connections are held", n)
	}
}

// roundTripper is a function as http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestTransportConcurrent has many requests compete for few connections, and expects
// everything that is written to be written in the span of its request.
func TestTransportConcurrent(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(answering())
	defer server.Close()
	dial := otelkprobe.DialContextTo(l.note, &net.Dialer{})
	base := &http.Transport{
		MaxConnsPerHost: 3, MaxIdleConnsPerHost: 3,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &watched{Conn: conn, t: t, l: l}, nil
		},
	}
	rt := otelkprobe.NewTransportTo(l.note, base)
	client := &http.Client{Transport: rt}
	defer client.CloseIdleConnections()
	var last atomic.Uint64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 75 {
				if err := oneOfMany(t.Context(), client, server.URL, last.Add(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := otelkprobe.Held(rt); n != 0 {
		t.Errorf("%d connections are held", n)
	}
	if n := len(only(l.take(), "binds")); n < 900 {
		t.Errorf("connections were bound %d times only", n)
	}
}

// oneOfMany makes a request whose kind follows from its number.
func oneOfMany(ctx context.Context, client *http.Client, url string, n uint64) error {
	span := n
	if n%7 == 0 {
		span = 0
	}
	method, path, body := http.MethodGet, "/small", io.Reader(nil)
	switch n % 5 {
	case 0:
		path = "/empty"
	case 1:
		method = http.MethodHead
	case 2:
		method, path, body = http.MethodPost, "/large", strings.NewReader(strings.Repeat("y", 20_000))
	}
	req, err := http.NewRequestWithContext(in(ctx, span), method, url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set(headerX, fmt.Sprint(span))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if n%11 != 0 { // else closed before its end, and the connection with it
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return errors.Join(err, resp.Body.Close())
}
