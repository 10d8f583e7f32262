//go:build vm

package scenario

import (
	"slices"
	"testing"
)

// checkLinks expects each link to lead somewhere, from where another leads back. From a
// first transmission none does where its trace was exported before it was sent again.
func checkLinks(t *testing.T, l *lineage) {
	back := map[string]string{
		"segment": "segment_of", "fragment": "fragment_of", "copy": "copy_of",
		"merged": "merged_into", "chained": "chained_to", "reassembled": "reassembled_into",
	}
	for kind, other := range back {
		back[other] = kind
	}
	back["retransmission"] = "retransmission_of"
	for _, j := range l.journeys {
		for _, link := range l.links[j.id] {
			switch {
			case link.to == nil || link.to == j:
				t.Errorf("%s: a link %q leads to %v", j, link.kind, link.to)
			case link.kind != "retransmission_of" && !slices.Contains(l.linked(link.to, back[link.kind]), j):
				t.Errorf("%s has the link %q to %s, from which none leads back", j, link.kind, link.to)
			}
		}
	}
}

// data selects the TCP packets with data from kinA to a port, by sequence number.
func (l *lineage) data(number int64) []*journey {
	found := where(port(between(l.journeys, kinIPA, kinIPB), number), func(j *journey) bool { return payload(j) > 0 })
	slices.SortStableFunc(found, func(a, b *journey) int {
		return int(int32(a.root.number("otel_kprobe.tcp.seq") - b.root.number("otel_kprobe.tcp.seq")))
	})
	return found
}

// payload is what a TCP packet carries: the first function that sees a segment
// has it with an Ethernet header.
func payload(j *journey) int64 {
	length := j.root.number("otel_kprobe.skb.len.first") - kinHeaders
	if j.root.number("otel_kprobe.tcp.flags")&2 != 0 { // SYN has more options
		return 0
	}
	if len(j.spans) > 0 && slices.Contains([]string{"validate_xmit_xfrm", "dev_hard_start_xmit", "veth_xmit"}, j.spans[0].name) {
		length -= 14
	}
	return length
}

// checkSegments cuts GSO packets in software, as the interface has no TSO: what
// leaves are the segments and what was none to begin with.
func checkSegments(t *testing.T, l *lineage) {
	left, sum, whole := 0, int64(0), 0
	for _, j := range port(between(l.journeys, kinIPA, kinIPB), portSegments) {
		segments := l.linked(j, "segment")
		if len(segments) == 0 {
			left++
			continue
		}
		whole++
		size := payload(j)
		if j.root.number("otel_kprobe.tcp.retransmit") == -1 {
			sum += size
		}
		if want := (size + kinMSS - 1) / kinMSS; want != int64(len(segments)) || len(j.calls("veth_xmit")) != 0 {
			t.Errorf("%s with %d bytes has %d segments, want %d, and was sent itself %d times",
				j, size, len(segments), want, len(j.calls("veth_xmit")))
		}
		for i, s := range segments {
			want := j.root.number("otel_kprobe.tcp.seq") + int64(i)*kinMSS
			if seq := s.root.number("otel_kprobe.tcp.seq"); seq != want&0xffffffff || len(s.calls("veth_xmit")) != 1 {
				t.Errorf("segment %d of %s, %s, has sequence number %d, want %d: %v", i, j, s, seq, want, s.functions())
			}
			if s.root.name != "packet tx tcp" {
				t.Errorf("segment %s is no packet tx tcp", s)
			}
		}
	}
	if left != l.segments {
		t.Errorf("the interface sent %d packets, %d traces left by it", l.segments, left)
	}
	if whole == 0 || sum > kinSent {
		t.Errorf("%d packets with %d bytes were cut", whole, sum)
	}
}

// groOfVeth says whether veth merges packets as it receives them: the veth of 5.10
// has NAPI, and with it GRO, only under an XDP program.
var groOfVeth = map[string]bool{"5.10": false, "6.1": true, "6.12": true, "7.3": true}

// checkMerges expects what is merged in GRO, and then in the socket's queue, to say
// so: each packet with data ends in another one, or is read.
func checkMerges(t *testing.T, l *lineage) {
	gro := 0
	for _, j := range l.data(portSegments) {
		if len(l.linked(j, "segment")) > 0 {
			continue
		}
		into, end := l.linked(j, "merged_into"), j.root.text("otel_kprobe.end")
		if (len(into) == 1) != (end == "merged") || len(into) > 1 {
			t.Errorf("%s ended %q and has %d links to what it was merged into", j, end, len(into))
		}
		if len(j.calls("skb_gro_receive")) > 0 && len(into) == 1 {
			gro++
		}
	}
	if want := groOfVeth[series(t)]; want != (gro > 0) {
		t.Errorf("%d packets were merged by GRO, want some: %v", gro, want)
	}
}

// checkRetransmissions expects the transmissions of one segment that a rule drops
// twice, and such as come since the acknowledgement is late.
func checkRetransmissions(t *testing.T, l *lineage) {
	var sent []*journey
	for _, j := range l.data(portResent) {
		if len(sent) == 0 || j.root.number("otel_kprobe.tcp.seq") == sent[0].root.number("otel_kprobe.tcp.seq") {
			sent = append(sent, j)
		}
	}
	if len(sent) < kinLost+1 {
		t.Fatalf("%d transmissions of the segment, want %d or more: %v", len(sent), kinLost+1, sent)
	}
	slices.SortStableFunc(sent, func(a, b *journey) int { return int(a.root.start) - int(b.root.start) })
	for i, j := range sent {
		number, first := j.root.number("otel_kprobe.tcp.retransmit"), l.linked(j, "retransmission_of")
		if i == 0 {
			if number != -1 || len(first) != 0 {
				t.Errorf("%s is retransmission %d of %v, want none", j, number, first)
			}
		} else if number != int64(i) || len(first) != 1 || first[0] != sent[0] {
			t.Errorf("%s is retransmission %d of %v, want %d of %s", j, number, first, i, sent[0])
		}
		if dropped := j.root.text("otel_kprobe.end") == "dropped"; dropped != (i < kinLost) {
			t.Errorf("%s, transmission %d: ended %q", j, i, j.root.text("otel_kprobe.end"))
		}
	}
	for _, j := range l.journeys {
		if j.root.number("otel_kprobe.tcp.retransmit") != -1 && j.root.number("destination.port") != portResent && !l.sentBefore(j) {
			t.Errorf("%s is called a retransmission", j)
		}
	}
}

// sentBefore says whether the first byte of a packet was sent before: under emulation an
// acknowledgement may come so late that the kernel sends again what was not lost.
func (l *lineage) sentBefore(j *journey) bool {
	return slices.ContainsFunc(l.journeys, func(other *journey) bool {
		for _, key := range []string{"source.port", "destination.port", "otel_kprobe.tcp.seq"} {
			if other.root.number(key) != j.root.number(key) {
				return false
			}
		}
		return other.root.start < j.root.start
	})
}

// checkFragments follows a datagram that is cut and put together again: the trace of
// the whole goes on as its first fragment's, the others have traces of their own,
// and the received whole is a new one.
func checkFragments(t *testing.T, l *lineage) {
	if l.fragments != kinPieces {
		t.Errorf("the interface sent %d packets, want %d", l.fragments, kinPieces)
	}
	found := where(between(l.journeys, kinIPA, kinIPB), func(j *journey) bool { return len(l.linked(j, "fragment")) > 0 })
	if len(found) != 1 {
		t.Fatalf("%d packets were cut into fragments, want 1: %v", len(found), found)
	}
	pieces := append([]*journey{found[0]}, l.linked(found[0], "fragment")...)
	if len(pieces) != kinPieces {
		t.Errorf("%d fragments, want %d", len(pieces), kinPieces)
	}
	if first := missingInOrder(found[0].functions(), []string{"ip_do_fragment", "veth_xmit", "ip_defrag"}); first != "" {
		t.Errorf("%s lacks %s: %v", found[0], first, found[0].functions())
	}
	wholes := map[*journey]bool{}
	for _, j := range pieces {
		whole := l.linked(j, "reassembled_into")
		if len(whole) != 1 || j.root.text("otel_kprobe.end") != "absorbed" || j.root.failed {
			t.Errorf("fragment %s ended %q and is part of %v", j, j.root.text("otel_kprobe.end"), whole)
			continue
		}
		wholes[whole[0]] = true
	}
	for whole := range wholes {
		if n := len(l.linked(whole, "reassembled")); n != kinPieces || len(wholes) != 1 {
			t.Errorf("%s was made of %d fragments, one of %d wholes", whole, n, len(wholes))
		}
		order := []string{"ip_local_deliver_finish", "__udp_enqueue_schedule_skb"}
		if first := missingInOrder(whole.functions(), order); first != "" || whole.root.number("destination.port") != portFragment {
			t.Errorf("%s lacks %q: %v", whole, first, whole.functions())
		}
	}
}

// checkCopies expects a packet to an address and its copies, as many in all as
// traces, of which two pass a function once each. On its way out, a broadcast is
// copied for the host itself, too.
func checkCopies(t *testing.T, l *lineage, address, function string, traces int) {
	t.Helper()
	found := where(l.journeys, func(j *journey) bool { return j.root.text("destination.address") == address })
	if len(found) != traces {
		t.Fatalf("%d traces of the packet to %s, want %d: %v", len(found), address, traces, found)
	}
	if copies := l.linked(found[0], "copy"); len(copies) != traces-1 {
		t.Errorf("%s has the copies %v, want %v", found[0], copies, found[1:])
	}
	passed := 0
	for _, j := range found {
		switch n := len(j.calls(function)); {
		case n == 1:
			passed++
		case n > 1:
			t.Errorf("%s passed %s %d times: %v", j, function, n, j.functions())
		}
	}
	if passed != 2 {
		t.Errorf("%d of the packets to %s passed %s, want 2", passed, address, function)
	}
}
