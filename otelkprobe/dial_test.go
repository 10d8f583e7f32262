package otelkprobe_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// TestDialContext expects a connection to be bound while it is dialled, and the
// dialer's own hooks to be called.
func TestDialContext(t *testing.T) {
	accepting, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer accepting.Close()
	called := ""
	control := func(_, _ string, _ syscall.RawConn) error { called += "control "; return nil }
	withContext := func(_ context.Context, _, _ string, _ syscall.RawConn) error { called += "context "; return nil }
	for _, test := range []struct {
		name   string
		dialer net.Dialer
		span   uint64
		want   []string
		called string
	}{
		{"no hooks", net.Dialer{}, 1, []string{"binds 1", "releases 1"}, ""},
		{"Control", net.Dialer{Control: control}, 1, []string{"binds 1", "releases 1"}, "control "},
		{"both", net.Dialer{Control: control, ControlContext: withContext}, 1, []string{"binds 1", "releases 1"}, "context "},
		{"no span", net.Dialer{Control: control}, 0, nil, "control "},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newListener()
			called = ""
			conn, err := otelkprobe.DialContextTo(l.note, &test.dialer)(in(t.Context(), test.span), "tcp", accepting.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if diff := cmp.Diff(test.want, l.take()); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
			if called != test.called {
				t.Errorf("hooks called: %q, want %q", called, test.called)
			}
			if n := l.bound(t, conn); n != 0 {
				t.Errorf("the connection is bound to %d", n)
			}
		})
	}
}

// TestDialledLate expects a connection whose request got another one meanwhile, and is
// over, to be bound no longer.
func TestDialledLate(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(answering())
	defer server.Close()
	slow, dialled := make(chan struct{}), make(chan net.Conn, 2)
	dial := otelkprobe.DialContextTo(l.note, &net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error {
		<-slow
		return nil
	}})
	base := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		dialled <- conn
		return conn, err
	}}
	rt := otelkprobe.NewTransportTo(l.note, base)
	client := &http.Client{Transport: rt}
	defer client.CloseIdleConnections()

	ctx, cancel := context.WithTimeout(in(t.Context(), 1), 50*time.Millisecond)
	defer cancel()
	if err := do(ctx, client, "", server.URL+"/small", nil); err == nil {
		t.Fatal("the request was made without a connection")
	}
	close(slow)
	conn := <-dialled
	if n := l.bound(t, conn); n != 0 {
		t.Errorf("the connection that came too late is bound to %d", n)
	}
	if diff := cmp.Diff([]string{"binds 1", "releases 1"}, l.take()); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if n := otelkprobe.Held(rt); n != 0 {
		t.Errorf("%d connections are held", n)
	}
}
