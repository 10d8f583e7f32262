package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// PageTrace is one trace as Jaeger's page gets it, which colours spans by their
// process.
type PageTrace struct {
	Spans     []PageSpan
	Processes map[string]PageProcess // by PageSpan.ProcessID
}

// PageSpan is a span of a PageTrace.
type PageSpan struct {
	TraceID, SpanID, OperationName, ProcessID string
	// References are the span's parent, and where its links lead to.
	References []PageReference
	Tags       []PageTag
	// Warnings are what Jaeger found wrong, such as a parent that is missing.
	Warnings []string
}

// PageReference points to a span; RefType of a parent is "CHILD_OF".
type PageReference struct{ RefType, TraceID, SpanID string }

// PageTag is an attribute; lists are JSON text.
type PageTag struct {
	Key   string
	Value any
}

// Tag returns the value of a tag, nil without it.
func (s PageSpan) Tag(key string) any { return tag(s.Tags, key) }

// Parent returns the span's parent, false for a root.
func (s PageSpan) Parent() (PageReference, bool) {
	i := slices.IndexFunc(s.References, func(r PageReference) bool { return r.RefType == "CHILD_OF" })
	if i < 0 {
		return PageReference{}, false
	}
	return s.References[i], true
}

// PageProcess is what Jaeger makes of a resource.
type PageProcess struct {
	ServiceName string
	Tags        []PageTag
}

// Tag returns the value of a tag, nil without it.
func (p PageProcess) Tag(key string) any { return tag(p.Tags, key) }

func tag(tags []PageTag, key string) any {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return nil
}

// Services returns the names that Jaeger's page offers to choose from.
func (c *JaegerClient) Services(ctx context.Context) ([]string, error) {
	var names []string
	err := c.page(ctx, "/api/services", &names)
	return names, err
}

// PageTrace returns the trace with this id (32 hexadecimal digits), which Jaeger has
// to hold.
func (c *JaegerClient) PageTrace(ctx context.Context, id string) (PageTrace, error) {
	var traces []PageTrace
	if err := c.page(ctx, "/api/traces/"+url.PathEscape(id), &traces); err != nil {
		return PageTrace{}, err
	}
	if len(traces) != 1 {
		return PageTrace{}, fmt.Errorf("ask Jaeger for trace %s: got %d traces, want 1", id, len(traces))
	}
	return traces[0], nil
}

// PageSearch returns the ids of the traces that a search of Jaeger's page finds, which is
// the query of the page's address. The times are the page's own addition.
func (c *JaegerClient) PageSearch(ctx context.Context, query url.Values, from, to time.Time) ([]string, error) {
	query = maps.Clone(query)
	query.Set("start", strconv.FormatInt(from.UnixMicro(), 10))
	query.Set("end", strconv.FormatInt(to.UnixMicro(), 10))
	var traces []struct{ TraceID string }
	if err := c.page(ctx, "/api/traces?"+query.Encode(), &traces); err != nil {
		return nil, err
	}
	var ids []string
	for _, t := range traces {
		ids = append(ids, t.TraceID)
	}
	slices.Sort(ids)
	return ids, nil
}

// page decodes the data of an answer to Jaeger's page.
func (c *JaegerClient) page(ctx context.Context, path string, data any) error {
	status, body, err := c.fetch(ctx, path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("ask Jaeger for %s: status %d: %s", path, status, head(body))
	}
	if err := decodePage(body, data); err != nil {
		return fmt.Errorf("decode Jaeger's answer to %s: %w", path, err)
	}
	return nil
}

// DecodePageTraces decodes what Jaeger answers to a search of its page.
func DecodePageTraces(body []byte) ([]PageTrace, error) {
	var traces []PageTrace
	if err := decodePage(body, &traces); err != nil {
		return nil, fmt.Errorf("decode Jaeger's answer: %w", err)
	}
	return traces, nil
}

func decodePage(body []byte, data any) error {
	answer := struct{ Data any }{data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%w: %s", err, head(body))
	}
	return nil
}
