package spans

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// keptCopy is a copy of a trace, kept beyond its time.
type keptCopy struct {
	id    [16]byte
	spans []Span
}

func keepCopy(t *Trace) keptCopy {
	c := keptCopy{t.ID, slices.Clone(t.Spans)}
	c.spans[0].Links = slices.Clone(c.spans[0].Links)
	return c
}

// checkCopy holds a copy to its trace: the same spans with ids of their own, below the
// summary, and a link back.
func checkCopy(t *testing.T, of keptCopy, c keptCopy, summary Span) {
	t.Helper()
	ids := map[[8]byte][8]byte{of.spans[0].Parent: summary.ID}
	taken := map[[8]byte]bool{summary.ID: true, summary.Parent: true}
	for i := range of.spans {
		ids[of.spans[i].ID] = c.spans[i].ID
		taken[of.spans[i].ID] = true
	}
	want := slices.Clone(of.spans)
	for i := range want {
		if id := c.spans[i].ID; taken[id] || id == [8]byte{} {
			t.Errorf("the id %x of %s is not new", id, want[i].Name)
		}
		taken[c.spans[i].ID] = true
		want[i].ID, want[i].Parent = ids[want[i].ID], ids[want[i].Parent]
		if s := &c.spans[i]; s.StartUnixNs < summary.StartUnixNs || s.EndUnixNs > summary.EndUnixNs {
			t.Errorf("%s from %d to %d sticks out of the summary, %d to %d", s.Name, s.StartUnixNs, s.EndUnixNs, summary.StartUnixNs, summary.EndUnixNs)
		}
	}
	want[0].Links = []Link{{TraceID: of.id, SpanID: of.spans[0].ID, Attrs: []Attr{StringAttr(KeyLinkKind, "copied_from")}}}
	if diff := cmp.Diff(want, c.spans); diff != "" {
		t.Errorf("copy (-want +got):\n%s", diff)
	}
}

func TestCopies(t *testing.T) {
	k := newFakeKernel()
	s, sink := newSummaries(t, SummaryOptions{Copies: true})
	both := sentIn(k, 1, 0, 1) // copied once, for who sent it
	both.in("tcp_v4_rcv", 0, func() { both.because(event.AppReads, appOf(2)) })
	unsampled := sentIn(k, 2, 100, 3)
	unsampled.Apps[0].Flags = event.AppUnsampled
	b := testBuilder(k)
	var of []keptCopy
	for _, j := range []*testJourney{both, unsampled} {
		tr := b.Build(&j.Journey)
		of = append(of, keepCopy(tr))
		s.Add(tr)
		if diff := cmp.Diff(of[len(of)-1].spans, tr.Spans); diff != "" || tr.Copy {
			t.Errorf("the trace itself has changed (-want +got):\n%s", diff)
		}
	}
	s.CloseAll()
	if len(sink.copies) != 1 || len(sink.spans) != 2 {
		t.Fatalf("%d copies and %d summaries, want one below the first of two", len(sink.copies), len(sink.spans))
	}
	if got := sink.copies[0].id; got != appOf(1).TraceID {
		t.Errorf("the copy is in trace %x", got)
	}
	checkCopy(t, of[0], sink.copies[0], sink.spans[0])
	if diff := cmp.Diff(SummaryStats{}, s.Stats()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// TestCopiesOfRequests expects the wait before a request to be within the summary.
func TestCopiesOfRequests(t *testing.T) {
	for name, r := range map[string]*blockio.Request{"queued": queuedWrite(), "two disks": dmOverTwoDisks()} {
		t.Run(name, func(t *testing.T) {
			s, sink := newSummaries(t, SummaryOptions{Copies: true})
			r.App = appOf(1)
			tr := testRequestBuilder().Build(r)
			of := keepCopy(tr)
			s.Add(tr)
			s.CloseAll()
			if len(sink.copies) != 1 || len(sink.spans) != 1 {
				t.Fatalf("%d copies and %d summaries", len(sink.copies), len(sink.spans))
			}
			checkCopy(t, of, sink.copies[0], sink.spans[0])
		})
	}
}

// TestCopiesAreBounded holds packets and spans below a summary, and spans in a trace, to
// their bounds, and counts what is left out.
func TestCopiesAreBounded(t *testing.T) {
	// packets of so many functions, of the spans of one trace in turn
	type load struct{ packets, functions, spans int }
	for _, c := range []struct {
		name string
		load
		copies int
	}{
		{"packets", load{100, 1, 1}, maxCopies},
		{"packets of two spans", load{100, 1, 2}, 100},
		{"spans", load{20, 399, 1}, maxCopiedSpans / 400},
		{"one that is too large", load{1, maxCopiedSpans, 1}, 0},
		{"spans of the trace", load{8, 3999, 8}, maxTraceCopiedSpans / 4000},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFakeKernel()
			b := testBuilder(k)
			s, sink := newSummaries(t, SummaryOptions{Copies: true})
			leftOut := int64(0)
			s.emit = func(trace *Trace) {
				if trace.Copy {
					sink.copies = append(sink.copies, keptCopy{id: trace.ID})
				}
				for _, a := range trace.Root().Attrs {
					if a.Key == KeySummaryCopiesLeftOut {
						leftOut += a.Int
					}
				}
			}
			for i := range c.packets {
				j := newTestJourney(k, uint64(i)+1)
				j.addFacts(tcpSegment)
				app := appOf(1)
				app.SpanID[0] = byte(i % c.spans)
				j.because(event.AppWrites, app)
				for range c.functions {
					j.in("ip_output", 0, nil)
				}
				s.Add(b.Build(&j.Journey))
			}
			s.CloseAll()
			want := uint64(c.packets - c.copies)
			if len(sink.copies) != c.copies || uint64(leftOut) != want || s.Stats().CopiesLeftOut != want {
				t.Errorf("%d copies, want %d; summaries tell of %d left out, the counter of %d, want %d",
					len(sink.copies), c.copies, leftOut, s.Stats().CopiesLeftOut, want)
			}
			if len(s.rooms) != 0 {
				t.Errorf("%d traces are remembered that no summary is open of", len(s.rooms))
			}
		})
	}
}

// TestCopiesForTheWire expects not more copies a second than packets may ask for.
func TestCopiesForTheWire(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	s, sink := newSummaries(t, SummaryOptions{Copies: true})
	for i := range uint64(WireTracesPerSecond + 50) {
		s.Add(b.Build(&namedIn(k, i+1, i, byte(i%10)+1).Journey))
	}
	s.CloseAll()
	if len(sink.copies) != WireTracesPerSecond || len(sink.found) != 10 {
		t.Errorf("%d copies below %d summaries", len(sink.copies), len(sink.found))
	}
	if diff := cmp.Diff(SummaryStats{CopiesLeftOut: 50}, s.Stats()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// TestGoldenApp shows a packet of a request that the wire names, with what is made of it
// in the application's trace.
func TestGoldenApp(t *testing.T) {
	k := newFakeKernel()
	j := namedIn(k, 21, 0, 1)
	j.told(event.AppReads, appOf(2), event.AppHelper, event.AppUnsampled)
	text := ""
	s := NewSummaries(SummaryOptions{Seed: [16]byte{1, 2, 3}, Copies: true}, func(t *Trace) { text += fmt.Sprintf("\n%s", dump(t)) })
	tr := testBuilder(k).Build(&j.Journey)
	text = dump(tr)
	s.Add(tr)
	s.CloseAll()
	checkGolden(t, "app-full", text)
}
