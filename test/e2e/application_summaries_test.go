package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// checkSummaries expects summaries of all that the request's spans caused, and each to
// be where and when it belongs.
func (a *application) checkSummaries(t *testing.T, r *request) {
	t.Helper()
	bytes := map[string]int64{}
	for _, s := range a.summaries {
		if s.TraceID != r.id {
			continue
		}
		at := slices.IndexFunc(r.spans[:], func(of *Span) bool { return of.SpanID == s.ParentSpanID })
		if at < 0 {
			t.Errorf("%s is below %q, which is no span of the request", s.Name, s.ParentSpanID)
			continue
		}
		sum, _ := s.Attributes["otel_kprobe.summary.bytes"].(int64)
		bytes[summaryOf(r.spans[at], s.Name)] += sum
		a.checkTimes(t, r, r.spans[at], s)
	}
	load, front, asking, back := r.spans[0], r.spans[1], r.spans[2], r.spans[3]
	want := map[string]int64{
		// The clients' sockets are theirs, the servers' from the header on.
		summaryOf(load, "packets sent"): 1, summaryOf(load, "packets read"): 1,
		summaryOf(front, "packets sent"):  1,
		summaryOf(asking, "packets sent"): 1, summaryOf(asking, "packets read"): 1,
		summaryOf(back, "packets sent"): 1,
	}
	if r.stores() {
		want[summaryOf(load, "packets sent")], want[summaryOf(asking, "packets sent")] = orderBytes, orderBytes
		// The rest of the body, behind what came with the header.
		want[summaryOf(front, "packets read")], want[summaryOf(back, "packets read")] = 1, 1
		want[summaryOf(back, "block requests")] = orderBytes
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if bytes[name] < want[name] {
			a.missing(t, "summaries of %s are of %d bytes, want %d or more", name, bytes[name], want[name])
		}
	}
}

// summaryOf names what a span caused.
func summaryOf(of *Span, name string) string {
	return fmt.Sprintf("%v %s: %s", of.Resource["service.name"], of.Kind, name)
}

// checkTimes expects a summary to last from the first begin to the last end of what it
// links to, and that to be within the span that caused it, as far as it can be.
func (a *application) checkTimes(t *testing.T, r *request, of, summary *Span) {
	t.Helper()
	got := [2]uint64{summary.StartUnixNs, summary.EndUnixNs}
	want := [2]uint64{^uint64(0), 0}
	count := 0
	for _, link := range summary.Links {
		root := a.byID[spanKey{link.TraceID, link.SpanID}]
		if root == nil {
			continue // checkLinks tells of it
		}
		count++
		want = [2]uint64{min(want[0], root.StartUnixNs), max(want[1], root.EndUnixNs)}
		from, to := window(r, of, summary.Name, root)
		if begin := time.Unix(0, int64(root.StartUnixNs)); begin.Before(from.Add(-skew)) {
			t.Errorf("%s: trace %s begins %v too early", summaryOf(of, summary.Name), root.TraceID, from.Sub(begin))
		}
		if end := time.Unix(0, int64(root.EndUnixNs)); !to.IsZero() && end.After(to.Add(skew)) {
			t.Errorf("%s: trace %s ends %v too late", summaryOf(of, summary.Name), root.TraceID, end.Sub(to))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: begin and end (-of its %d traces +got):\n%s", summaryOf(of, summary.Name), count, diff)
	}
}

// window is the time in which what a span caused can have happened; to is zero where
// nothing bounds it.
//
// A write, a request of the disk and a read to their ends happen in the span, but what
// is read was sent before: of a server's span by the client, in that one's span. An
// answer is flushed when the server's span has ended, and has been read to its end
// before the client's span ends. Acknowledgements may be delayed, that of a connection's
// end counts for its last request, and packets that are sent again are late.
func window(r *request, of *Span, summary string, root *Span) (from, to time.Time) {
	first, last := of, of
	if client := r.above(of); client != nil {
		switch summary {
		case "packets read":
			first = client
		case "packets sent":
			last = client
		}
	}
	from = time.Unix(0, int64(first.StartUnixNs))
	if summary != "block requests" && (!hasData(root) || root.Attributes["otel_kprobe.tcp.retransmit"] != nil) {
		return from, time.Time{}
	}
	return from, time.Unix(0, int64(last.EndUnixNs))
}
