package otelkprobe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener plays otel-kprobe: it keeps the span of each socket, which it knows by its
// inode, as the kernel by its address: descriptors are used again.
type listener struct {
	mu      sync.Mutex
	said    []string
	sockets map[uint64]uint64 // inode to span id
}

func newListener() *listener { return &listener{sockets: map[uint64]uint64{}} }

// note takes the place of noteV1.
func (l *listener) note(what, _, _, span, _, fd uint64) {
	var of syscall.Stat_t
	if err := syscall.Fstat(int(fd), &of); err != nil {
		panic(err) // within Control the descriptor is open
	}
	id := spanNumber(span)
	l.mu.Lock()
	defer l.mu.Unlock()
	word := map[uint64]string{
		1: "starts", 2: "ends", 3: "binds", 4: "lingers", 5: "releases", 6: "answers",
	}[what&0xff]
	l.said = append(l.said, fmt.Sprintf("%s %d", word, id))
	switch what & 0xff {
	case 3, 4, 6:
		l.sockets[of.Ino] = id
	case 5:
		delete(l.sockets, of.Ino)
	}
}

// spanNumber gives the number that spanContext made a span's id from.
func spanNumber(loaded uint64) uint64 {
	var id trace.SpanID
	binary.LittleEndian.PutUint64(id[:], loaded)
	return binary.BigEndian.Uint64(id[:])
}

// take gives what was said since the last call.
func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := l.said
	l.said = nil
	return said
}

// bound is the span of an open socket, 0 for none.
func (l *listener) bound(t *testing.T, conn net.Conn) uint64 {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Error(err)
		return 0
	}
	var of syscall.Stat_t
	if err := raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &of) }); err != nil {
		return 0 // closed: what it would write goes nowhere
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets[of.Ino]
}

// spanContext is a sampled span with an id made of a number; 0 is no span.
func spanContext(n uint64) trace.SpanContext {
	if n == 0 {
		return trace.SpanContext{}
	}
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], n)
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{15: 1}, SpanID: id, TraceFlags: trace.FlagsSampled,
	})
}

// in is a context within a span.
func in(ctx context.Context, n uint64) context.Context {
	return trace.ContextWithSpanContext(ctx, spanContext(n))
}

// watched is a connection that compares, at each write, the span that it is bound to
// with the one that the message says it belongs to.
type watched struct {
	net.Conn
	t *testing.T
	l *listener

	mu      sync.Mutex
	message uint64 // span of the message that is being written
}

// headerX is what a message says.
const headerX = "X-Span"

func (w *watched) NetConn() net.Conn { return w.Conn }

func (w *watched) Write(p []byte) (int, error) {
	if says := regexp.MustCompile(headerX + `: (\d+)\r\n`).FindSubmatch(p); says != nil {
		w.mu.Lock()
		if _, err := fmt.Sscan(string(says[1]), &w.message); err != nil {
			w.t.Error(err)
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	want := w.message
	w.mu.Unlock()
	if got := w.l.bound(w.t, w.Conn); got != want {
		first, _, _ := bytes.Cut(p, []byte("\r\n"))
		w.t.Errorf("%q of span %d is written while the connection is bound to %d", first[:min(len(first), 60)], want, got)
	}
	return w.Conn.Write(p)
}

// only gives what was said of some kinds.
func only(said []string, kinds ...string) []string {
	return slices.DeleteFunc(said, func(s string) bool {
		return !slices.ContainsFunc(kinds, func(k string) bool { return len(s) > len(k) && s[:len(k)] == k })
	})
}
