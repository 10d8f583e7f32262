package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
)

func newBack(log *slog.Logger) *cobra.Command {
	var server serverOptions
	var k kernelTies
	var dir string
	var delay time.Duration
	cmd := &cobra.Command{
		Use:   "back",
		Short: "Serve requests by writing files, waiting or failing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			p, err := newProvider(ctx, "demo-back", &k)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, flush(ctx, p)) }()
			s, err := newStore(dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.clear()) }()
			return serve(ctx, log, server, &k, backHandler(log, s, delay, p))
		},
	}
	server.register(cmd.Flags(), ":8081")
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` below which files are stored; without it that for temporary files, often no disk")
	cmd.Flags().DurationVar(&delay, "delay", 300*time.Millisecond, "how long /slow takes")
	k.register(cmd.Flags())
	return cmd
}

// backHandler makes the back's routes.
func backHandler(log *slog.Logger, s *store, delay time.Duration, p trace.TracerProvider) http.Handler {
	mux := newMux()
	handle(mux, p, "/store", func(w http.ResponseWriter, r *http.Request) { storeBody(w, r, log, s) })
	handle(mux, p, "GET /echo", echo)
	handle(mux, p, "GET /slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
			writeLine(w, "waited %v", delay)
		case <-r.Context().Done(): // nobody is there to be answered
		}
	})
	handle(mux, p, "GET /error", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this always fails", http.StatusInternalServerError)
	})
	return mux
}

// storeBody stores the request's body, or without one bytes of the size that it asks
// for.
func storeBody(w http.ResponseWriter, r *http.Request, log *slog.Logger, s *store) {
	size, ok := sizeOf(w, r, 0)
	if !ok {
		return
	}
	content := io.Reader(http.MaxBytesReader(w, r.Body, maxSize))
	if r.ContentLength == 0 {
		content = io.LimitReader(filling{}, size)
	}
	n, err := s.put(content)
	if err != nil {
		log.ErrorContext(r.Context(), "a body was not stored", "error", err)
		http.Error(w, "the body was not stored", http.StatusInternalServerError)
		return
	}
	writeLine(w, "stored %d bytes", n)
}

// echo answers with as many bytes as the request asks for.
func echo(w http.ResponseWriter, r *http.Request) {
	size, ok := sizeOf(w, r, 0)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", fmt.Sprint(size))
	_, _ = io.CopyN(w, filling{}, size) // the client has gone: it knows
}

// filling is an endless text.
type filling struct{}

func (filling) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
