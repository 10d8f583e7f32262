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
	// of all of them, and what was copied below any
	spans  []Span
	copies []keptCopy
}

func (k *summarySink) take(trace *Trace) {
	k.t.Helper()
	if trace.Copy {
		k.copies = append(k.copies, keepCopy(trace))
		return
	}
	s := trace.Root()
	number := s.Parent[7]
	if app := appOf(number); trace.ID != app.TraceID || s.Parent != app.SpanID || !trace.Summary || len(trace.Spans) != 1 {
		k.t.Errorf("summary %+v is no child of span %d", trace, number)
	}
	if k.ids[s.ID] || s.ID == [8]byte{} {
		k.t.Errorf("the id %x is not new", s.ID)
	}
	k.ids[s.ID] = true
	k.spans = append(k.spans, *s)
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

// TestSummariesOfOnePacket expects summaries of their own for two spans of one trace
// whose writes are in one packet, and none for a span that is not sampled.
func TestSummariesOfOnePacket(t *testing.T) {
	k := newFakeKernel()
	s, sink := newSummaries(t, SummaryOptions{})
	j := newTestJourney(k, 1)
	j.addFacts(tcpSegment)
	j.because(event.AppWrites, appOf(1))
	second := appOf(1)
	second.SpanID[0] = 9
	j.because(event.AppWrites, second)
	j.told(event.AppWrites, appOf(2), event.AppHelper, event.AppUnsampled)
	j.because(event.AppReads, appOf(1))
	j.in("ip_output", 0, nil)
	trace := testBuilder(k).Build(&j.Journey)
	s.Add(trace)
	s.emit = func(trace *Trace) {
		sink.spans = append(sink.spans, *trace.Root())
	}
	s.CloseAll()
	got := map[string]int{}
	ids := map[[8]byte]bool{}
	for _, one := range sink.spans {
		got[fmt.Sprintf("%s %x", one.Name, one.Parent)]++
		ids[one.ID] = true
	}
	want := map[string]int{"packets sent 0000000000000001": 1, "packets sent 0900000000000001": 1, "packets read 0000000000000001": 1}
	if diff := cmp.Diff(want, got); diff != "" || len(ids) != len(want) {
		t.Errorf("%d ids of summaries (-want +got):\n%s", len(ids), diff)
	}
}

// namedIn is sentIn for a packet that names its span itself.
func namedIn(k *fakeKernel, id, afterNs uint64, number byte) *testJourney {
	j := sentIn(k, id, afterNs, number)
	j.Apps[0].What, j.Apps[0].Source = event.AppRequests, event.AppPayload
	return j
}

// TestSummariesForTheWire expects a bound on the summaries that packets ask for, which
// takes nothing from others, and the rest to be counted.
func TestSummariesForTheWire(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	s, sink := newSummaries(t, SummaryOptions{})
	const flood = WireTracesPerSecond + 50
	for i := range uint64(flood) {
		b.Each(&namedIn(k, i+1, i, byte(i)+1).Journey, s.Add)
	}
	b.Each(&namedIn(k, 1000, 1000, 1).Journey, s.Add) // has one already
	b.Each(&sentIn(k, 1001, 1001, 250).Journey, s.Add)
	s.CloseAll()
	if got := len(sink.found); got != WireTracesPerSecond+1 {
		t.Errorf("%d summaries, want those of a second and the sender's own", got)
	}
	if diff := cmp.Diff(SummaryStats{WireLeftOut: 50}, s.Stats()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if got := sink.found[0].Attributes["otel_kprobe.summary.packets"]; got != 2 {
		t.Errorf("the first summary is of %d packets, want 2", got)
	}
}

// TestSummariesAreNamed expects a name and an id for each kind of links.
func TestSummariesAreNamed(t *testing.T) {
	names, numbers := map[string]bool{}, map[uint8]bool{}
	for _, kind := range []string{"sent_by", "answers", "read_by", "submitted_by"} {
		names[summaryName(kind)], numbers[kindNumber(kind)] = true, true
	}
	if len(names) != 4 || len(numbers) != 4 {
		t.Errorf("names %v, numbers %v, want four of each", names, numbers)
	}
}
