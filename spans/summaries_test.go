package spans

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// summed is what the tests look at of a summary.
type summed struct {
	Name       string
	App        byte   // number of the span
	FromNs     uint64 // CLOCK_MONOTONIC, from the first packet's begin
	ToNs       uint64
	Attributes map[string]int64
	Links      int
}

// summarySink keeps the summaries that were made.
type summarySink struct {
	t     *testing.T
	begin uint64
	ids   map[[8]byte]bool
	found []summed
}

func (k *summarySink) take(trace *Trace) {
	k.t.Helper()
	s := trace.Root()
	number := s.Parent[7]
	if app := appOf(number); trace.ID != app.TraceID || s.Parent != app.SpanID || !trace.Summary || len(trace.Spans) != 1 {
		k.t.Errorf("summary %+v is no child of span %d", trace, number)
	}
	if k.ids[s.ID] || s.ID == [8]byte{} {
		k.t.Errorf("the id %x is not new", s.ID)
	}
	k.ids[s.ID] = true
	if s.StartUnixNs != s.EnterMonoNs+testOffset || s.EndUnixNs != s.ExitMonoNs+testOffset {
		k.t.Errorf("summary from %d to %d, CLOCK_MONOTONIC %d to %d", s.StartUnixNs, s.EndUnixNs, s.EnterMonoNs, s.ExitMonoNs)
	}
	m := summed{
		Name: s.Name, App: number, FromNs: s.EnterMonoNs - k.begin, ToNs: s.ExitMonoNs - k.begin,
		Attributes: map[string]int64{}, Links: len(s.Links),
	}
	for _, a := range s.Attrs {
		if a.Type == TypeInt {
			m.Attributes[a.Key.String()] = a.Int
		}
	}
	k.found = append(k.found, m)
}

// newSummaries makes Summaries for a packet that begins at 5 s, as those of newTestJourney.
func newSummaries(t *testing.T, o SummaryOptions) (*Summaries, *summarySink) {
	sink := &summarySink{t: t, begin: 5 * testSec, ids: map[[8]byte]bool{}}
	return NewSummaries(o, sink.take), sink
}

// sentIn is a packet that begins some time after 5 s and was sent in a span; its only
// function takes 150 ns.
func sentIn(k *fakeKernel, id, afterNs uint64, number byte) *testJourney {
	j := newTestJourney(k, id)
	j.now += afterNs
	j.addFacts(tcpSegment)
	j.because(event.AppWrites, appOf(number))
	j.in("ip_output", 0, nil)
	j.end(event.EndConsumed, 0, 0)
	return j
}

func TestSummaries(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	s, sink := newSummaries(t, SummaryOptions{IdleNs: 1000, AgeNs: 10_000})
	add := func(j *testJourney) { b.Each(&j.Journey, s.Add) }

	add(sentIn(k, 1, 0, 1))
	again := sentIn(k, 2, 500, 1)
	again.Links = []event.Link{{What: event.LinkRetransmitted, Journey: 2, Other: 1, Number: 1, AtMonoNs: again.now}}
	again.Ends[0] = event.End{Journey: 2, Skb: again.skb, AtMonoNs: again.now, Reason: 2, Entered: 1, How: event.EndDropped}
	add(again)
	add(sentIn(k, 3, 600, 2))
	plain := newTestJourney(k, 4)
	plain.addFacts(tcpSegment)
	plain.in("ip_output", 0, nil)
	add(plain) // nobody's

	s.Advance(5*testSec + 1600)
	if len(sink.found) != 0 {
		t.Fatalf("%+v came too early", sink.found)
	}
	s.Advance(5*testSec + 1650)
	add(sentIn(k, 5, 2000, 1)) // too late for the first
	s.CloseAll()

	one := func(from uint64, number byte) summed {
		return summed{Name: "packets sent", App: number, FromNs: from, ToNs: from + 150, Links: 1, Attributes: map[string]int64{
			"otel_kprobe.summary.packets": 1, "otel_kprobe.summary.bytes": 84, "otel_kprobe.summary.time_ns": 150,
			"otel_kprobe.summary.slowest.duration_ns": 150, "otel_kprobe.stage.ip.duration_ns": 150,
		}}
	}
	want := []summed{
		{Name: "packets sent", App: 1, FromNs: 0, ToNs: 650, Links: 2, Attributes: map[string]int64{
			"otel_kprobe.summary.packets": 2, "otel_kprobe.summary.bytes": 168, "otel_kprobe.summary.time_ns": 300,
			"otel_kprobe.summary.retransmits": 1, "otel_kprobe.summary.drops": 1, "otel_kprobe.summary.errors": 1,
			"otel_kprobe.summary.slowest.duration_ns": 150, "otel_kprobe.stage.ip.duration_ns": 300,
		}},
		one(2000, 1), one(600, 2),
	}
	if diff := cmp.Diff(want[:1], sink.found[:1]); diff != "" {
		t.Errorf("first summary (-want +got):\n%s", diff)
	}
	byApp := map[string]summed{}
	for _, m := range sink.found[1:] {
		byApp[fmt.Sprint(m.App)] = m
	}
	if diff := cmp.Diff(map[string]summed{"1": want[1], "2": want[2]}, byApp); diff != "" {
		t.Errorf("other summaries (-want +got):\n%s", diff)
	}
}

// TestSummariesAreBounded holds number, age and links of summaries to their bounds.
func TestSummariesAreBounded(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	s, sink := newSummaries(t, SummaryOptions{IdleNs: 1000, AgeNs: 5000, MaxOpen: 2})
	add := func(j *testJourney) { b.Each(&j.Journey, s.Add) }
	for number := range byte(3) {
		add(sentIn(k, uint64(number)+1, uint64(number), number+1))
	}
	if len(sink.found) != 1 || sink.found[0].App != 1 {
		t.Fatalf("%+v, want the oldest when a third begins", sink.found)
	}
	const packets = 100
	for i := range uint64(packets) {
		add(sentIn(k, 10+i, 10+i*60, 3))
		s.Advance(5*testSec + 10 + i*60)
	}
	s.CloseAll()
	total := int64(0)
	for _, m := range sink.found {
		if m.App == 3 {
			total += m.Attributes["otel_kprobe.summary.packets"]
			if left := m.Attributes["otel_kprobe.summary.links_left_out"]; int64(m.Links)+left != m.Attributes["otel_kprobe.summary.packets"] || m.Links > maxSummaryLinks {
				t.Errorf("%d links, %d left out of %+v", m.Links, left, m)
			}
		}
	}
	if total != packets+1 || len(sink.found) != 4 {
		t.Errorf("%d packets in %d summaries, want %d, of which one was made for its age", total, len(sink.found), packets+1)
	}
}

// TestSummariesOfRequests expects reads and writes of a span, failed ones among them,
// in one summary.
func TestSummariesOfRequests(t *testing.T) {
	b := testRequestBuilder()
	s, sink := newSummaries(t, SummaryOptions{})
	var bytes, took int64
	for i, r := range []*blockio.Request{plainRead(), mediumError()} {
		r.ID, r.App = uint64(i)+1, appOf(7)
		tr := b.Build(r)
		sink.begin = min(sink.begin, tr.EnterMonoNs)
		bytes += int64(r.Bytes)
		took += int64(tr.Root().ExitMonoNs - tr.Root().EnterMonoNs)
		s.Add(tr)
	}
	s.CloseAll()
	if len(sink.found) != 1 {
		t.Fatalf("%+v, want one summary", sink.found)
	}
	got := sink.found[0]
	delete(got.Attributes, "otel_kprobe.summary.slowest.duration_ns")
	got.FromNs, got.ToNs = 0, 0
	want := summed{Name: "block requests", App: 7, Links: 2, Attributes: map[string]int64{
		"otel_kprobe.summary.requests": 2, "otel_kprobe.summary.bytes": bytes,
		"otel_kprobe.summary.time_ns": took, "otel_kprobe.summary.errors": 1,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}
