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

// because adds what a program did now.
func (j *testJourney) because(what event.AppWhat, app event.AppContext) {
	j.Apps = append(j.Apps, event.App{
		What: what, Journey: j.ID, Skb: j.skb, AtMonoNs: j.now, Context: app, Source: event.AppThread,
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
		}
	}
	want := map[Key]string{}
	if links := trace.Root().Links; len(links) > 0 {
		want[KeyAppTraceID] = fmt.Sprintf("%x", links[0].TraceID)
		want[KeyAppSpanID] = fmt.Sprintf("%x", links[0].SpanID)
		want[KeyAppSource] = "thread"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}
