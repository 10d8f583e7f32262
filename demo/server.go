package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"
)

const (
	// headerWithin and idleWithin keep connections of clients that went away from
	// piling up.
	headerWithin = 10 * time.Second
	idleWithin   = 2 * time.Minute
	// endWithin is how long requests that are under way may take when the server ends.
	endWithin = 10 * time.Second
	// maxSize bounds the bytes of one request and of one answer.
	maxSize = 64 << 20
)

// serverOptions are the flags of front and back.
type serverOptions struct {
	listen string
	tls    string
	http2  bool
}

func (o *serverOptions) register(flags *pflag.FlagSet, listen string) {
	flags.StringVar(&o.listen, "listen", listen, "address to serve on")
	flags.StringVar(&o.tls, "tls", "", "serve TLS with a certificate that is made now and put into this `file`, for --trust of clients")
	flags.BoolVar(&o.http2, "http2", false, "permit HTTP/2, over TLS only; its connections carry many requests at once, which otel-kprobe does not tell apart")
}

// protocols are those that a server or a client may speak.
func protocols(http2 bool) *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	p.SetHTTP2(http2)
	return p
}

// handle adds a route with a span for each request.
func handle(mux *http.ServeMux, p trace.TracerProvider, pattern string, f http.HandlerFunc) {
	mux.Handle(pattern, otelhttp.NewHandler(f, pattern, instrumentation(p)...))
}

// newMux makes a mux that answers whether the server is well, without a span.
func newMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeLine(w, "ok")
	})
	return mux
}

// writeLine answers with a line of text.
func writeLine(w http.ResponseWriter, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...) // a client that has gone knows
}

// serve serves until ctx is done, and then ends what is under way.
func serve(ctx context.Context, log *slog.Logger, o serverOptions, k *kernelTies, handler http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("serve, see --listen: %w", err)
	}
	server := &http.Server{
		Handler: handler, Protocols: protocols(o.http2),
		ReadHeaderTimeout: headerWithin, IdleTimeout: idleWithin,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	k.serve(server)
	if o.tls != "" {
		if server.TLSConfig, err = ownCertificate(o.tls); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(listener, "", "")
		} else {
			ended <- server.Serve(listener)
		}
	}()
	log.Info("serving", "address", listener.Addr().String(), "tls", o.tls != "")
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return fmt.Errorf("end the requests that are under way: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// sizeOf is the number of bytes that a request asks for, fallback without one. It has
// answered when ok is false.
func sizeOf(w http.ResponseWriter, r *http.Request, fallback int64) (size int64, ok bool) {
	text := r.URL.Query().Get("size")
	if text == "" {
		return fallback, true
	}
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 || size > maxSize {
		http.Error(w, fmt.Sprintf("size is a number from 0 to %d", maxSize), http.StatusBadRequest)
		return 0, false
	}
	return size, true
}
