//go:build vm

package scenario

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
)

// appHeaders is how long IP and TCP headers are together on Linux: with timestamps.
const appHeaders = 52

// TestApplicationSpans plays instrumentation that publishes the span of each thread,
// and expects every packet to be tied to the spans whose data it carries, and to no
// other.
func TestApplicationSpans(t *testing.T) {
	mountBPF(t)
	tr := start(t, "--record", "DIR/recording", fmt.Sprintf("port %d or port %d", portAppTCP, portAppUDP))
	contexts := openAppContexts(t, appTrace)
	port, writes := appStream(t, contexts, []int{100, 3000, 300_000, 700, 500})
	appDatagrams(t, contexts)
	o := tr.stop(t)
	checkSums(t, o, "file")
	all := readApps(t, o.output())
	var sent, other []appJourney
	for _, j := range all {
		if j.root.number("source.port") == port {
			sent = append(sent, j)
		} else if j.root.number("source.port") == portAppTCP {
			other = append(other, j)
		}
	}
	t.Run("stream", func(t *testing.T) { checkAppStream(t, sent, writes) })
	t.Run("acknowledgements", func(t *testing.T) {
		for _, j := range other {
			if len(j.sent) > 0 {
				t.Errorf("%s is tied to spans %v: nothing that the server's thread sent", j, j.sent)
			}
		}
	})
	t.Run("datagrams", func(t *testing.T) { checkAppDatagrams(t, all) })
	t.Run("replay", func(t *testing.T) { checkReplayedBytes(t, o) })
	t.Run("child", func(t *testing.T) { checkAppSummaries(t, contexts) })
	t.Run("full", func(t *testing.T) { checkAppCopies(t, contexts) })
	t.Run("off", func(t *testing.T) { checkNoApps(t, contexts) })
}

// sentBytes is a packet of the client with the bytes of its stream that it carries.
type sentBytes struct {
	appJourney
	from, to int64
}

// checkAppStream expects each packet's spans to be those of the writes that its
// bytes come from, and all bytes to be seen.
func checkAppStream(t *testing.T, sent []appJourney, writes []appWrite) {
	t.Helper()
	first := slices.IndexFunc(sent, func(j appJourney) bool { return j.root.number("otel_kprobe.tcp.flags")&2 != 0 })
	if first < 0 {
		t.Fatal("the connection's first packet is missing")
	}
	if diff := gocmp.Diff([]byte{appConnect}, sent[first].sent); diff != "" {
		t.Errorf("%s, which connects (-want +got):\n%s", sent[first], diff)
	}
	begin := uint32(sent[first].root.number("otel_kprobe.tcp.seq")) + 1
	end := writes[len(writes)-1].to
	var data []sentBytes
	for i, j := range sent {
		from := int64(uint32(j.root.number("otel_kprobe.tcp.seq")) - begin)
		to := from + j.root.number("otel_kprobe.skb.len.first") - appHeaders
		if i == first || to <= from || from > end { // what says that the FIN came twice is longer
			if i != first && len(j.sent) > 0 {
				t.Errorf("%s has no data, but is tied to spans %v", j, j.sent)
			}
			continue
		}
		data = append(data, sentBytes{j, from, to})
		if diff := gocmp.Diff(spansOf(writes, from, to), j.sent); diff != "" {
			t.Errorf("%s with bytes %d to %d (-want +got):\n%s", j, from, to, diff)
		}
	}
	slices.SortFunc(data, func(a, b sentBytes) int { return cmp.Compare(a.from, b.from) })
	seen, read := int64(0), 0
	for _, d := range data {
		if d.from > seen {
			t.Errorf("bytes %d to %d are in no trace", seen, d.from)
		}
		seen = max(seen, d.to)
		if len(d.read) > 0 {
			read++
		}
		if extra := slices.DeleteFunc(slices.Clone(d.read), func(n byte) bool { return n == appReader }); len(extra) > 0 {
			t.Errorf("%s was read in spans %v", d, extra)
		}
	}
	if seen != end {
		t.Errorf("bytes up to %d are in traces, want %d", seen, end)
	}
	if read == 0 {
		t.Error("no packet was read in the reader's span")
	}
	checkWriteWaits(t, data, writes)
}

// spansOf are the spans in which the bytes from from to to were written.
func spansOf(writes []appWrite, from, to int64) (spans []byte) {
	for _, w := range writes {
		if w.from < to && w.to > from && w.span != 0 {
			spans = append(spans, w.span)
		}
	}
	return spans
}

// checkWriteWaits expects each packet to begin with its wait in the socket, and that
// it grows while one large write waits for acknowledgements.
func checkWriteWaits(t *testing.T, data []sentBytes, writes []appWrite) {
	t.Helper()
	large := slices.MaxFunc(writes, func(a, b appWrite) int { return cmp.Compare(a.to-a.from, b.to-b.from) })
	var shortest, longest int64 = 1 << 62, 0
	seen := int64(0)
	for _, d := range data {
		again := d.to <= seen
		seen = max(seen, d.to)
		var waits []*span
		for _, w := range d.waits {
			if w.text(keyWait) == "socket write" {
				waits = append(waits, w)
			}
		}
		if again {
			continue // sent once more
		}
		if len(waits) != 1 || waits[0].start != d.root.start {
			t.Errorf("%s with bytes %d to %d has %d waits in the socket, want one at its begin", d, d.from, d.to, len(waits))
			continue
		}
		if d.from >= large.from && d.to <= large.to {
			ns := waits[0].number("otel_kprobe.duration_ns")
			shortest, longest = min(shortest, ns), max(longest, ns)
		}
	}
	if longest < 2*shortest {
		t.Errorf("packets of one large write wait %d to %d ns: none waited for acknowledgements", shortest, longest)
	}
}

// checkAppDatagrams expects the first datagram to be tied to its span, and the
// second to none.
func checkAppDatagrams(t *testing.T, all []appJourney) {
	t.Helper()
	var found [][]byte
	for _, j := range all {
		if j.root.number("destination.port") == portAppUDP {
			found = append(found, j.sent)
		}
	}
	if diff := gocmp.Diff([][]byte{{appDatagram}, nil}, found); diff != "" {
		t.Errorf("spans of the datagrams (-want +got):\n%s", diff)
	}
}

// checkNoApps expects nothing of applications with --correlate=off.
func checkNoApps(t *testing.T, c appContexts) {
	t.Helper()
	tr := start(t, "--correlate", "off", "--filter-func", few, fmt.Sprintf("udp port %d", portAppUDP))
	appDatagrams(t, c)
	o := tr.stop(t)
	all := readApps(t, o.output())
	if len(all) < 2 {
		t.Fatalf("%d traces are too few to show anything", len(all))
	}
	for _, j := range all {
		if len(j.sent)+len(j.read) > 0 {
			t.Errorf("%s is tied to spans %v and %v", j, j.sent, j.read)
		}
	}
}

// checkAppSummaries expects a summary of what each thread did in its span, as a child
// of that span.
func checkAppSummaries(t *testing.T, c appContexts) {
	t.Helper()
	tr := start(t, "--correlate", "child", "--record", "DIR/recording",
		"--filter-func", few+"|skb_consume_udp|skb_copy_datagram_iter", fmt.Sprintf("udp port %d", portAppUDP))
	appDatagrams(t, c)
	o := tr.stop(t)
	checkSums(t, o, "file")
	traces, err := e2e.ReadTracesFile(o.output())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, s := range e2e.Flatten(traces) {
		if s.TraceID != hex.EncodeToString(appTrace[:]) {
			continue
		}
		packets, _ := s.Attributes["otel_kprobe.summary.packets"].(int64)
		found[s.Name+" in "+s.ParentSpanID] += packets
		if len(s.Links) != int(packets) {
			t.Errorf("%s has %d links to %d packets", s.Name, len(s.Links), packets)
		}
	}
	// The answer to the datagram is read in the span, too.
	span := fmt.Sprintf(" in %016x", appDatagram)
	want := map[string]int64{"packets sent" + span: 1, "packets read" + span: 1}
	if diff := gocmp.Diff(want, found); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
	if o.summary.Summaries != uint64(len(want)) {
		t.Errorf("the closing summary tells of %d, want %d", o.summary.Summaries, len(want))
	}
	checkReplayedBytes(t, o, "--correlate", "child")
}

// checkAppCopies expects the packets of the span, besides their own traces, below the
// summaries in the application's trace.
func checkAppCopies(t *testing.T, c appContexts) {
	t.Helper()
	tr := start(t, "--correlate", "full", "--record", "DIR/recording",
		"--filter-func", few+"|skb_consume_udp|skb_copy_datagram_iter", fmt.Sprintf("udp port %d", portAppUDP))
	appDatagrams(t, c)
	o := tr.stop(t)
	checkSums(t, o, "file")
	traces, err := e2e.ReadTracesFile(o.output())
	if err != nil {
		t.Fatal(err)
	}
	names, packets := map[string]string{}, 0
	var app, other []e2e.Span
	for _, s := range e2e.Flatten(traces) {
		if s.TraceID == hex.EncodeToString(appTrace[:]) {
			names[s.SpanID] = s.Name
			app = append(app, s)
		} else {
			other = append(other, s)
		}
	}
	for _, s := range app {
		parent := names[s.ParentSpanID]
		if strings.HasPrefix(s.Name, "packet ") {
			packets++
			if len(s.Links) != 1 || !slices.ContainsFunc(other, func(of e2e.Span) bool {
				return of.SpanID == s.Links[0].SpanID && of.Name == s.Name && of.StartUnixNs == s.StartUnixNs && of.EndUnixNs == s.EndUnixNs
			}) {
				t.Errorf("%s below %q has the links %+v to no trace like it", s.Name, parent, s.Links)
			}
		} else if parent == "" && !strings.HasPrefix(s.Name, "packets ") {
			t.Errorf("%s has no parent", s.Name)
		}
	}
	// The first datagram, and the answer that is read in the span.
	if copied := uint64(len(app)) - o.summary.Summaries; packets != 2 || copied != o.summary.Copied {
		t.Errorf("%d packets of %d spans are copied, the closing summary tells of %d", packets, copied, o.summary.Copied)
	}
	checkReplayedBytes(t, o, "--correlate", "full")
}
