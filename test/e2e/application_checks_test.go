package e2e

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	appTraceKey = "otel_kprobe.app.trace_id"
	// longestHeaders of IPv4 and TCP: a longer packet carries data.
	longestHeaders = 120
	// fewestOrders are less than what the load generator sends in its time, of which a
	// quarter are no orders.
	fewestOrders = 3
	// mostLeftOut bounds what may be missing in a run in which the kernel left out probes,
	// most of which show nothing that no other one shows.
	mostLeftOut = 4
	// skew is how far apart the times of a program and of the kernel may be that are the
	// same: both come from one clock.
	skew = time.Millisecond
)

// spanKey is a span by its ids.
type spanKey struct{ trace, span string }

// application is what Jaeger has of the application and of what it caused.
type application struct {
	requests  []*request
	byID      map[spanKey]*Span
	kernel    []*Span // all that are no application's
	roots     []*Span // of packets and block requests
	summaries []*Span
	// leftOut is how many more things may be missing, because the kernel left probes out.
	leftOut int
}

// missing fails the test for what is not there, unless the kernel may have left it out.
func (a *application) missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if a.leftOut == 0 {
		t.Errorf(format, args...)
		return
	}
	a.leftOut--
	t.Logf("left out by the kernel: "+format, args...)
}

// request is one of the application's traces: the load's client span, the front's server
// span and its client span, the back's server span, each below the one before.
type request struct {
	id    string
	spans [4]*Span
}

// name is what the front was asked for, and the trace.
func (r *request) name() string { return r.spans[1].Name + " " + r.id[:8] }

// stores says whether the request had the back write a file.
func (r *request) stores() bool { return r.spans[3].Attributes["http.route"] == "/store" }

// above is the span that called a server's span, nil of another one.
func (r *request) above(s *Span) *Span {
	if i := slices.Index(r.spans[:], s); i%2 == 1 {
		return r.spans[i-1]
	}
	return nil
}

// newApplication sorts the spans, and expects each of the application's traces to be
// whole.
func newApplication(t *testing.T, spans []Span) *application {
	t.Helper()
	a := &application{byID: map[spanKey]*Span{}}
	own := map[string][]*Span{}
	hosts := map[any]bool{}
	for i := range spans {
		s := &spans[i]
		a.byID[spanKey{s.TraceID, s.SpanID}] = s
		hosts[s.Resource["host.name"]] = true
		switch {
		case s.ScopeName != ourScope:
			own[s.TraceID] = append(own[s.TraceID], s)
			continue
		case s.ParentSpanID == "":
			a.roots = append(a.roots, s)
		case s.Attributes["otel_kprobe.summary.packets"] != nil || s.Attributes["otel_kprobe.summary.requests"] != nil:
			a.summaries = append(a.summaries, s)
		}
		a.kernel = append(a.kernel, s)
	}
	if len(hosts) != 1 {
		t.Errorf("the spans are of the hosts %v, want one", hosts)
	}
	orders := 0
	for _, id := range slices.Sorted(maps.Keys(own)) {
		r := newRequest(t, id, own[id])
		a.requests = append(a.requests, r)
		if r.stores() {
			orders++
		}
	}
	if orders < fewestOrders {
		t.Errorf("%d of %d requests are orders, want at least %d", orders, len(a.requests), fewestOrders)
	}
	return a
}

// newRequest expects the trace to be a request's way through load, front and back.
func newRequest(t *testing.T, id string, spans []*Span) *request {
	t.Helper()
	r := &request{id: id}
	want := []string{"demo-load Client", "demo-front Server", "demo-front Client", "demo-back Server"}
	var got []string
	for parent := ""; len(got) < len(want); parent = r.spans[len(got)-1].SpanID {
		i := slices.IndexFunc(spans, func(s *Span) bool { return s.ParentSpanID == parent })
		if i < 0 {
			break
		}
		r.spans[len(got)] = spans[i]
		service, _ := spans[i].Resource["service.name"].(string)
		got = append(got, service+" "+spans[i].Kind)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(spans) != len(want) {
		t.Fatalf("trace %s has %d spans, each below the one before (-want +got):\n%s", id, len(spans), diff)
	}
	return r
}

// checkSearch follows the link that Jaeger's page has on the application's trace, and
// expects to find just the traces that name it.
func (a *application) checkSearch(t *testing.T, s *stack, r *request) {
	t.Helper()
	var want []string
	for _, root := range a.roots {
		if root.Attributes[appTraceKey] == r.id {
			want = append(want, root.TraceID)
		}
	}
	slices.Sort(want)
	page, err := url.Parse(strings.ReplaceAll(readLinkPatterns(t)["traces"].URL, "#{traceID}", r.id))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	from := time.Unix(0, int64(r.spans[0].StartUnixNs))
	found, err := s.client.PageSearch(ctx, page.Query(), from.Add(-time.Minute), from.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, found); diff != "" || len(want) == 0 {
		t.Errorf("%s finds (-want +got):\n%s", page, diff)
	}
}

// checkLinks expects each link to lead to a span that Jaeger has, and each root that
// names a span of an application to have a link to it.
func (a *application) checkLinks(t *testing.T) {
	t.Helper()
	for _, s := range a.kernel {
		for _, link := range s.Links {
			if a.byID[spanKey{link.TraceID, link.SpanID}] == nil {
				t.Errorf("%s of trace %s has a link to span %s of trace %s, which is not there", s.Name, s.TraceID, link.SpanID, link.TraceID)
			}
		}
	}
	for _, root := range a.roots {
		id := root.Attributes[appTraceKey]
		if id == nil {
			continue
		}
		span := root.Attributes["otel_kprobe.app.span_id"]
		if !slices.ContainsFunc(root.Links, func(l Link) bool { return l.TraceID == id && l.SpanID == span }) {
			t.Errorf("%s of trace %s names span %v of trace %v and has the links %+v", root.Name, root.TraceID, span, id, root.Links)
		}
	}
}

// checkPackets expects each packet that carries data to be tied to a span, and by the
// application's own word: here nobody has to believe the wire.
func (a *application) checkPackets(t *testing.T) {
	t.Helper()
	for _, root := range a.roots {
		if source := root.Attributes["otel_kprobe.app.source"]; hasData(root) && source != "helper" {
			a.missing(t, "%s of trace %s with %v bytes is tied by %v", root.Name, root.TraceID, root.Attributes["otel_kprobe.skb.len.first"], source)
		}
	}
}

// hasData says whether a packet carries data.
func hasData(root *Span) bool {
	length, _ := root.Attributes["otel_kprobe.skb.len.first"].(int64)
	return length > longestHeaders
}

// checkBlock expects the body of an order to be written to the disk in the span of the
// back's server, by its process, and nothing in others.
func (a *application) checkBlock(t *testing.T, r *request) {
	t.Helper()
	back, written := r.spans[3], int64(0)
	for _, root := range a.roots {
		if root.Attributes["otel_kprobe.block.operation"] == nil {
			continue
		}
		for _, link := range root.Links {
			if link.TraceID != r.id {
				continue
			}
			if link.SpanID != back.SpanID || root.Attributes["process.pid"] != back.Resource["process.pid"] {
				t.Errorf("%s of trace %s by process %v is tied to span %s, want %s of process %v", root.Name, root.TraceID,
					root.Attributes["process.pid"], link.SpanID, back.SpanID, back.Resource["process.pid"])
			}
			if root.Attributes["disk.io.direction"] == "write" {
				bytes, _ := root.Attributes["otel_kprobe.block.bytes"].(int64)
				written += bytes
			}
		}
	}
	want := int64(0)
	if r.stores() {
		want = orderBytes
	}
	if written < want || written > 0 && want == 0 {
		t.Errorf("%d bytes are written in the span of the back's server, want %d", written, want)
	}
}
