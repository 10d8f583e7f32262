package spans

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// appOf is a span of an application by a number.
func appOf(number byte) event.AppContext {
	return event.AppContext{TraceID: [16]byte{0x4b, 15: number}, SpanID: [8]byte{7: number}}
}

// because adds what a program did now, in a span that its thread published.
func (j *testJourney) because(what event.AppWhat, app event.AppContext) {
	j.told(what, app, event.AppThread, 0)
}

// told is because, with who told and of what kind the span is.
func (j *testJourney) told(what event.AppWhat, app event.AppContext, source event.AppSource, flags event.AppFlags) {
	j.Apps = append(j.Apps, event.App{
		What: what, Journey: j.ID, Skb: j.skb, AtMonoNs: j.now, Context: app, Source: source, Flags: flags,
	})
}

func TestApps(t *testing.T) {
	sent := func(j *testJourney) {
		j.in("ip_output", 0, func() { j.because(event.AppSends, appOf(1)) })
	}
	received := func(j *testJourney) {
		j.onSoftStack(func() {
			j.in("__netif_receive_skb", 0, func() {
				j.in("udp_rcv", 0, func() { j.because(event.AppSends, appOf(2)) })
			})
		})
		j.in("skb_copy_datagram_iter", 0, func() { j.because(event.AppReads, appOf(3)) })
	}
	for _, c := range []struct {
		name  string
		build func(j *testJourney)
		want  []string
	}{
		{"nobody", func(j *testJourney) { j.in("ip_output", 0, nil) }, nil},
		{"sent", sent, []string{"sent_by 1"}},
		{"the thread that a packet interrupts has not sent it", received, []string{"read_by 3"}},
		{"sent and received here", func(j *testJourney) { sent(j); received(j) }, []string{"sent_by 1", "read_by 3"}},
		{"senders come first", func(j *testJourney) {
			j.because(event.AppReads, appOf(4))
			j.because(event.AppWrites, appOf(5))
			j.in("ip_output", 0, nil)
		}, []string{"sent_by 5", "read_by 4"}},
		{"each once", func(j *testJourney) {
			j.because(event.AppWrites, appOf(5))
			j.because(event.AppWrites, appOf(6))
			j.because(event.AppWrites, appOf(5))
			j.in("ip_output", 0, nil)
		}, []string{"sent_by 5", "sent_by 6"}},
		{"ids of zeros name nothing", func(j *testJourney) {
			j.because(event.AppWrites, event.AppContext{TraceID: [16]byte{1}})
			j.because(event.AppWrites, event.AppContext{SpanID: [8]byte{1}})
			j.in("ip_output", 0, nil)
		}, nil},
		{"not more than eight", func(j *testJourney) {
			for i := range byte(12) {
				j.because(event.AppReads, appOf(i+1))
			}
			j.in("ip_output", 0, nil)
		}, []string{"read_by 1", "read_by 2", "read_by 3", "read_by 4", "read_by 5", "read_by 6", "read_by 7", "read_by 8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newTestJourney(newFakeKernel(), 16)
			j.addFacts(echoRequest)
			c.build(j)
			trace := testBuilder(j.k).Build(&j.Journey)
			if diff := cmp.Diff(c.want, appLinks(t, trace)); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
			if trace.Correlated != (len(c.want) > 0) {
				t.Errorf("correlated is %v", trace.Correlated)
			}
			checkAppAttrs(t, trace)
		})
	}
}

// TestAppSources expects the wire to be believed where nobody else says who sent a
// packet, and that a span which is not sampled correlates nothing.
func TestAppSources(t *testing.T) {
	const none = event.AppFlags(0)
	type told struct {
		what   event.AppWhat
		number byte
		source event.AppSource
		flags  event.AppFlags
	}
	for _, c := range []struct {
		name       string
		told       []told
		want       []string
		correlated bool
		byWire     bool
	}{
		{"helper", []told{{event.AppWrites, 1, event.AppHelper, none}}, []string{"sent_by 1 helper"}, true, false},
		{"a request", []told{{event.AppRequests, 1, event.AppPayload, none}}, []string{"sent_by 1 payload"}, true, true},
		{
			"an answer, and its reader",
			[]told{{event.AppReads, 2, event.AppThread, none}, {event.AppAnswers, 1, event.AppPayload, none}},
			[]string{"answers 1 payload", "read_by 2 thread"}, true, false,
		},
		{
			"payload before option, requests before answers",
			[]told{
				{event.AppAnswers, 3, event.AppTCPOption, none}, {event.AppRequests, 2, event.AppTCPOption, none},
				{event.AppRequests, 1, event.AppPayload, none},
			},
			[]string{"sent_by 1 payload", "sent_by 2 tcp_option", "answers 3 tcp_option"}, true, true,
		},
		{
			"the same span by both",
			[]told{{event.AppRequests, 1, event.AppTCPOption, none}, {event.AppRequests, 1, event.AppPayload, none}},
			[]string{"sent_by 1 payload"}, true, true,
		},
		{
			"the sender is known better",
			[]told{
				{event.AppRequests, 2, event.AppPayload, none}, {event.AppAnswers, 3, event.AppPayload, none},
				{event.AppSends, 1, event.AppHelper, none},
			},
			[]string{"sent_by 1 helper"}, true, false,
		},
		{
			"the sender is known better, and not sampled",
			[]told{{event.AppRequests, 2, event.AppPayload, none}, {event.AppWrites, 1, event.AppHelper, event.AppUnsampled}},
			[]string{"sent_by 1 helper unsampled"}, false, false,
		},
		{
			"a reader does not tell who sent it",
			[]told{{event.AppRequests, 2, event.AppPayload, none}, {event.AppReads, 1, event.AppHelper, none}},
			[]string{"sent_by 2 payload", "read_by 1 helper"}, true, false,
		},
		{
			"a reader that is not sampled vouches for nothing",
			[]told{{event.AppRequests, 2, event.AppPayload, none}, {event.AppReads, 1, event.AppHelper, event.AppUnsampled}},
			[]string{"sent_by 2 payload", "read_by 1 helper unsampled"}, true, true,
		},
		{
			"who says that a span is not sampled knows more",
			[]told{{event.AppWrites, 1, event.AppThread, none}, {event.AppWrites, 1, event.AppHelper, event.AppUnsampled}},
			[]string{"sent_by 1 thread unsampled"}, false, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newTestJourney(newFakeKernel(), 16)
			j.addFacts(tcpSegment)
			for _, a := range c.told {
				j.told(a.what, appOf(a.number), a.source, a.flags)
			}
			j.in("ip_output", 0, nil)
			trace := testBuilder(j.k).Build(&j.Journey)
			if diff := cmp.Diff(c.want, sourcedLinks(trace)); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
			if trace.Correlated != c.correlated || trace.CorrelatedByWire != c.byWire {
				t.Errorf("correlated %v, by the wire only %v", trace.Correlated, trace.CorrelatedByWire)
			}
			checkAppAttrs(t, trace)
		})
	}
}

// TestSocketOfAHelper expects what a socket sends in a soft interrupt to be its span's,
// and what comes to it not: the ports of both ends may be the same.
func TestSocketOfAHelper(t *testing.T) {
	k := newFakeKernel()
	sent, came := newTestJourney(k, 16), newTestJourney(k, 17)
	sent.onSoftStack(func() {
		sent.addFacts(tcpSegment)
		sent.told(event.AppSends, appOf(1), event.AppHelper, 0)
		sent.in("ip_output", 0, func() { sent.in("netif_rx", 0, nil) })
	})
	came.onSoftStack(func() {
		came.addFacts(tcpSegment)
		came.in("ip_rcv", 0, func() { came.told(event.AppSends, appOf(1), event.AppHelper, 0) })
	})
	for _, c := range []struct {
		name string
		*testJourney
		want []string
	}{{"acknowledgement", sent, []string{"sent_by 1 helper"}}, {"received", came, nil}} {
		if diff := cmp.Diff(c.want, sourcedLinks(testBuilder(k).Build(&c.Journey))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// sourcedLinks are the root's links to applications, by kind, number, source and
// whether they say that the span is not sampled.
func sourcedLinks(trace *Trace) (links []string) {
	for _, l := range trace.Root().Links {
		text := fmt.Sprint(l.Attrs[0].Str, " ", l.SpanID[7], " ", l.Attrs[1].Str)
		if diff := cmp.Diff([]Attr{{Key: KeyAppSampled, Type: TypeBool}}, l.Attrs[2:]); diff == "" {
			text += " unsampled"
		} else if len(l.Attrs) > 2 {
			text += " " + diff
		}
		links = append(links, text)
	}
	return links
}

// appLinks are the kinds of the root's links to applications, with the spans' numbers.
func appLinks(t *testing.T, trace *Trace) (links []string) {
	t.Helper()
	for _, l := range trace.Root().Links {
		number := l.SpanID[7]
		if app := appOf(number); l.TraceID != app.TraceID || l.SpanID != app.SpanID {
			t.Errorf("link to %x %x", l.TraceID, l.SpanID)
		}
		links = append(links, fmt.Sprint(l.Attrs[0].Str, " ", number))
	}
	return links
}

// checkAppAttrs holds the root's attributes to its first link.
func checkAppAttrs(t *testing.T, trace *Trace) {
	t.Helper()
	got := map[Key]string{}
	for _, a := range trace.Root().Attrs {
		switch a.Key {
		case KeyAppTraceID, KeyAppSource:
			got[a.Key] = a.Str
		case KeyAppSpanID:
			got[a.Key] = fmt.Sprintf("%016x", a.Int)
		case KeyAppSampled:
			got[a.Key] = fmt.Sprint(a.Int)
		}
	}
	want := map[Key]string{}
	if links := trace.Root().Links; len(links) > 0 {
		want[KeyAppTraceID] = fmt.Sprintf("%x", links[0].TraceID)
		want[KeyAppSpanID] = fmt.Sprintf("%x", links[0].SpanID)
		want[KeyAppSource] = links[0].Attrs[1].Str
		if len(links[0].Attrs) > 2 {
			want[KeyAppSampled] = "0"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}
