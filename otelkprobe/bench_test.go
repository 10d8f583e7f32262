package otelkprobe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// BenchmarkNote is what a statement costs where otel-kprobe does not run.
func BenchmarkNote(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		otelkprobe.Note(1, 2, 3, 4, 5, 6)
	}
}

// BenchmarkSpanStarted is the same with what makes a statement of a span context.
func BenchmarkSpanStarted(b *testing.B) {
	span := spanContext(1)
	b.ReportAllocs()
	for b.Loop() {
		otelkprobe.SpanStarted(span)
	}
}

// BenchmarkUnixSocket is the other way to tell somebody on the same machine: the same 48
// bytes in a datagram, which costs a system call and, as here, a reader that keeps up.
func BenchmarkUnixSocket(b *testing.B) {
	address := &net.UnixAddr{Name: filepath.Join(b.TempDir(), "socket"), Net: "unixgram"}
	reader, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		b.Fatal(err)
	}
	writer, err := net.DialUnix("unixgram", nil, address)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		room := make([]byte, 48)
		for {
			if _, err := reader.Read(room); err != nil {
				return
			}
		}
	})
	note := make([]byte, 48)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := writer.Write(note); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := errors.Join(writer.Close(), reader.Close()); err != nil {
		b.Error(err)
	}
	wg.Wait()
}

// BenchmarkRoundTrip is a request to a server in the same process.
func BenchmarkRoundTrip(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "x") }))
	defer server.Close()
	for _, bench := range []struct {
		name      string
		transport func(http.RoundTripper) http.RoundTripper
	}{
		{"Without", func(base http.RoundTripper) http.RoundTripper { return base }},
		{"With", otelkprobe.NewTransport},
	} {
		b.Run(bench.name, func(b *testing.B) {
			client := &http.Client{Transport: bench.transport(&http.Transport{})}
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(in(context.Background(), 1), http.MethodGet, server.URL, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
