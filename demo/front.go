package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
)

// idlePerHost is how many idle connections the front keeps to the back.
const idlePerHost = 64

func newFront(log *slog.Logger) *cobra.Command {
	var server serverOptions
	var client clientOptions
	var k kernelTies
	cmd := &cobra.Command{
		Use:   "front",
		Short: "Serve requests by asking the back",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			p, err := newProvider(ctx, "demo-front", &k)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, flush(ctx, p)) }()
			client.http2 = server.http2
			c, err := newClient(client, &k, p, idlePerHost)
			if err != nil {
				return err
			}
			defer c.CloseIdleConnections()
			return serve(ctx, log, server, &k, frontHandler(c, client.target, p))
		},
	}
	server.register(cmd.Flags(), ":8080")
	client.register(cmd.Flags(), "back", "http://127.0.0.1:8081", "`URL` of the back")
	k.register(cmd.Flags())
	return cmd
}

// front passes requests on to the back.
type front struct {
	client *http.Client
	back   string // URL
}

// frontHandler makes the front's routes.
func frontHandler(client *http.Client, back string, p trace.TracerProvider) http.Handler {
	f := &front{client, back}
	mux := newMux()
	handle(mux, p, "GET /{$}", func(w http.ResponseWriter, r *http.Request) { f.ask(w, r, "/echo?size=1000") })
	handle(mux, p, "/order", f.order)
	handle(mux, p, "GET /slow", func(w http.ResponseWriter, r *http.Request) { f.ask(w, r, "/slow") })
	handle(mux, p, "GET /error", func(w http.ResponseWriter, r *http.Request) { f.ask(w, r, "/error") })
	return mux
}

// order has the back store the request's body, or bytes of the size that it asks for.
func (f *front) order(w http.ResponseWriter, r *http.Request) {
	if size, ok := sizeOf(w, r, 0); ok {
		f.ask(w, r, "/store?size="+strconv.FormatInt(size, 10))
	}
}

// ask sends the request on as one for path, and gives the back's answer back.
func (f *front) ask(w http.ResponseWriter, r *http.Request, path string) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, f.back+path, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out.ContentLength = r.ContentLength
	answer, err := f.client.Do(out)
	if err != nil {
		http.Error(w, fmt.Sprintf("ask the back: %v", err), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
	}
}
