// Command requests measures HTTP requests a second, as a service with OpenTelemetry
// makes and answers them: a span on either side, traceparent between them. With -tell
// both sides tell otel-kprobe of their spans and connections, too. The spans are
// exported nowhere, for their export is not what is measured.
//
//	requests -serve ADDRESS [-tell]
//	requests -ask ADDRESS -count N [-tell]
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	apitrace "go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
	"github.com/otel-kprobe/otel-kprobe/otelkprobe/spanprocessor"
)

// bodyBytes is the size of each request's and each answer's body.
const bodyBytes = 1024

func main() {
	serve := flag.String("serve", "", "answer on this `ADDRESS`")
	ask := flag.String("ask", "", "send requests to this `ADDRESS`, and print how many a second were answered")
	count := flag.Int("count", 2000, "how many requests to send")
	tell := flag.Bool("tell", false, "tell otel-kprobe of spans and connections")
	flag.Parse()
	p := newPeer(*tell)
	var err error
	switch {
	case *serve != "":
		err = p.serve(*serve)
	case *ask != "":
		err = p.ask(*ask, *count)
	default:
		err = errors.New("do nothing: say -serve or -ask")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "requests:", err)
		os.Exit(1)
	}
}

// peer is one side of the requests.
type peer struct {
	tell   bool
	tracer apitrace.Tracer
	names  propagation.TraceContext
}

func newPeer(tell bool) *peer {
	var options []trace.TracerProviderOption
	if tell {
		options = append(options, trace.WithSpanProcessor(spanprocessor.New()))
	}
	return &peer{tell: tell, tracer: trace.NewTracerProvider(options...).Tracer("requests")}
}

func (p *peer) serve(address string) error {
	answer := make([]byte, bodyBytes)
	server := &http.Server{
		Addr: address, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := p.names.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			_, span := p.tracer.Start(ctx, "answer", apitrace.WithSpanKind(apitrace.SpanKindServer))
			defer span.End()
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				_, _ = w.Write(answer) // the client notices
			}
		}),
	}
	if p.tell {
		otelkprobe.Server(server)
	}
	return server.ListenAndServe()
}

// ask sends the requests one after the other over one connection. Some go first that
// are not counted.
func (p *peer) ask(address string, count int) error {
	client := &http.Client{Timeout: time.Minute}
	if p.tell {
		client.Transport = otelkprobe.NewTransport(nil)
	}
	body := make([]byte, bodyBytes)
	var began time.Time
	for i := -count / 10; i < count; i++ {
		if i == 0 {
			began = time.Now()
		}
		if err := p.request(client, "http://"+address+"/", body); err != nil {
			return err
		}
	}
	fmt.Printf("%.0f\n", float64(count)/time.Since(began).Seconds())
	return nil
}

func (p *peer) request(client *http.Client, url string, body []byte) error {
	ctx, span := p.tracer.Start(context.Background(), "request", apitrace.WithSpanKind(apitrace.SpanKindClient))
	defer span.End()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	p.names.Inject(ctx, propagation.HeaderCarrier(request.Header))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != bodyBytes {
		return fmt.Errorf("read an answer of %d bytes: got %d: %w", bodyBytes, n, err)
	}
	return nil
}
