package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// JaegerClient reads traces through Jaeger's /api/v3, which answers in OTLP and
// keeps nanoseconds. (/api/traces, which the UI uses, cuts them to microseconds.)
type JaegerClient struct {
	base string
	http *http.Client
}

// NewJaegerClient returns a client for the query API at base, such as
// Jaeger.Query. Close it.
func NewJaegerClient(base string) *JaegerClient {
	return &JaegerClient{base: base, http: newHTTPClient()}
}

// Close closes idle connections.
func (c *JaegerClient) Close() { c.http.CloseIdleConnections() }

// ErrNoTrace says that Jaeger answered, and has no such trace (yet).
var ErrNoTrace = errors.New("no such trace in jaeger")

// Search bounds what JaegerClient.Find returns. Jaeger requires all its fields.
type Search struct {
	// Service is the resource attribute service.name.
	Service string
	// From and To bound the start of a span: wall clock, nanoseconds kept.
	From, To time.Time
	// Limit is the largest number of traces.
	Limit int
}

// Trace returns all spans of the trace with this id (32 hexadecimal digits), or
// an error that wraps ErrNoTrace.
func (c *JaegerClient) Trace(ctx context.Context, id string) (ptrace.Traces, error) {
	return c.get(ctx, "/api/v3/traces/"+url.PathEscape(id), nil)
}

// Find returns all spans of the traces that s matches; no span when there is
// none.
func (c *JaegerClient) Find(ctx context.Context, s Search) (ptrace.Traces, error) {
	traces, err := c.get(ctx, "/api/v3/traces", url.Values{
		"query.service_name":   {s.Service},
		"query.start_time_min": {s.From.UTC().Format(time.RFC3339Nano)},
		"query.start_time_max": {s.To.UTC().Format(time.RFC3339Nano)},
		// Two spellings: v1 reads num_traces, v2 search_depth; each ignores the other's.
		"query.num_traces":   {strconv.Itoa(s.Limit)},
		"query.search_depth": {strconv.Itoa(s.Limit)},
	})
	if errors.Is(err, ErrNoTrace) {
		return ptrace.NewTraces(), nil
	}
	return traces, err
}

// AwaitTrace asks for the trace until it has at least spans spans or ctx ends.
func (c *JaegerClient) AwaitTrace(ctx context.Context, id string, spans int) (ptrace.Traces, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		traces, err := c.Trace(ctx, id)
		if err == nil && traces.SpanCount() >= spans {
			return traces, nil
		}
		if err != nil && !errors.Is(err, ErrNoTrace) {
			return ptrace.Traces{}, err
		}
		found := 0
		if err == nil {
			found = traces.SpanCount()
		}
		select {
		case <-ctx.Done():
			return ptrace.Traces{}, fmt.Errorf("wait for %d spans of trace %s, Jaeger has %d: %w", spans, id, found, ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *JaegerClient) get(ctx context.Context, path string, query url.Values) (ptrace.Traces, error) {
	status, body, err := c.fetch(ctx, path, query)
	if err != nil {
		return ptrace.Traces{}, err
	}
	return decodeAnswer(status, body)
}

// fetch returns status and body of Jaeger's answer, whatever the status is.
func (c *JaegerClient) fetch(ctx context.Context, path string, query url.Values) (int, []byte, error) {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("ask Jaeger: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask Jaeger: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("read Jaeger's answer to %s: %w", path, err)
	}
	return resp.StatusCode, body, nil
}

// decodeAnswer decodes the body of an /api/v3 answer: {"result": TracesData}, or
// several of them one after the other as a gRPC gateway streams them.
func decodeAnswer(status int, body []byte) (ptrace.Traces, error) {
	switch {
	case status == http.StatusNotFound && json.Valid(body):
		return ptrace.Traces{}, ErrNoTrace
	case status != http.StatusOK:
		return ptrace.Traces{}, fmt.Errorf("ask Jaeger: status %d: %s", status, head(body))
	}
	all := ptrace.NewTraces()
	decoder := json.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		var answer struct {
			Result json.RawMessage `json:"result"`
		}
		err := decoder.Decode(&answer)
		if errors.Is(err, io.EOF) && n > 0 {
			return all, nil
		}
		if err != nil {
			// The UI answers unknown paths with its page and status 200.
			return ptrace.Traces{}, fmt.Errorf("decode Jaeger's answer: not JSON: %w: %s", err, head(body))
		}
		if len(answer.Result) == 0 {
			return ptrace.Traces{}, fmt.Errorf("decode Jaeger's answer: no result: %s", head(body))
		}
		traces, err := DecodeTraces(answer.Result)
		if err != nil {
			return ptrace.Traces{}, fmt.Errorf("decode Jaeger's answer: %w", err)
		}
		traces.ResourceSpans().MoveAndAppendTo(all.ResourceSpans())
	}
}

// head returns the start of body for an error message.
func head(body []byte) string {
	const most = 200
	if len(body) > most {
		return fmt.Sprintf("%q…", body[:most])
	}
	return fmt.Sprintf("%q", body)
}
