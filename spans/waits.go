package spans

import (
	"cmp"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// Wait is what a packet waited in while no function worked on it.
type Wait uint8

// The waits.
const (
	WaitNone       Wait = iota
	WaitWrite           // in a TCP socket, from being written to being sent the first time
	WaitQdisc           // in a queueing discipline, to be sent
	WaitNeighbour       // for the link-layer address of the next hop
	WaitGRO             // in NAPI, for packets to merge with or for its batch
	WaitBacklog         // in a CPU's backlog, to be received
	WaitReassembly      // for the other fragments
	WaitSocketLock      // in a socket's backlog, until its user lets go of it
	WaitReordering      // in TCP, for what was sent before it
	WaitSocket          // in a socket's queue, to be read
	waitCount
)

// waitNames is indexed by Wait.
var waitNames = [waitCount]string{
	"", "socket write", "qdisc", "neighbour", "gro", "backlog", "reassembly", "socket lock", "reordering", "socket",
}

// waitSpanNames is indexed by Wait.
var waitSpanNames = [waitCount]string{
	"", "wait socket write", "wait qdisc", "wait neighbour", "wait gro", "wait backlog", "wait reassembly", "wait socket lock",
	"wait reordering", "wait socket",
}

// String returns the wait's word in the glossary, "" for WaitNone.
func (w Wait) String() string {
	if w >= waitCount {
		return ""
	}
	return waitNames[w]
}

// waitAfter gives the wait that begins when a function of Linux 5.10 to 7.3 has
// returned, WaitNone for the others.
func waitAfter(name string, stage Stage) Wait {
	if stage == StageQdisc && strings.HasSuffix(name, "_enqueue") {
		return WaitQdisc
	}
	switch name {
	case "__neigh_event_send":
		return WaitNeighbour
	case "napi_gro_receive", "gro_receive_skb", "dev_gro_receive":
		return WaitGRO
	case "enqueue_to_backlog", "netif_rx", "__netif_rx", "netif_rx_internal":
		return WaitBacklog
	case "ip_frag_queue", "ip_defrag", "inet_frag_queue_insert", "ipv6_frag_rcv":
		return WaitReassembly
	case "tcp_add_backlog":
		return WaitSocketLock
	case "tcp_data_queue_ofo":
		return WaitReordering
	case "tcp_queue_rcv", "tcp_data_queue", "__udp_enqueue_schedule_skb", "packet_rcv",
		"sock_queue_rcv_skb", "sock_queue_rcv_skb_reason", "__sock_queue_rcv_skb":
		return WaitSocket
	}
	return WaitNone
}

// waitedFor is one wait of an skb.
type waitedFor struct {
	skb            uint64
	fromMonoNs     uint64 // return of what queued it
	toMonoNs       uint64 // entry of what came next
	cause          Wait
	top            int32 // while it is open: the node below the root that queued it
	ended, expired bool
}

// findWaits fills b.waits, by their begin. A wait begins when the function that
// queued the skb returns and ends at the next entry on that skb in another flow of
// calls: what the caller of that function still does on the skb is no end, and
// that the caller itself goes on with it no wait.
func (b *Builder) findWaits(j *journey.Journey) {
	b.waits, b.tops = b.waits[:0], b.tops[:0]
	for i := range b.nester.nodes {
		nd := &b.nester.nodes[i]
		top := int32(i)
		if nd.parent >= 0 {
			top = b.tops[nd.parent]
		}
		b.tops = append(b.tops, top)
		f := &j.Frames[nd.frame]
		if f.Flags&event.FrameNoSkb != 0 {
			continue // it works on no skb, perhaps after having handed it over
		}
		open := b.openWait(f.Skb)
		if open != nil && open.top != top {
			open.toMonoNs, open.ended = nd.enter, true
			open.expired = nd.enter <= open.fromMonoNs // it was fetched at once
			open = nil
		}
		cause := b.names.function(f.Func).wait
		if cause == WaitNone || nd.entryOnly || nd.incomplete {
			continue
		}
		if open == nil {
			b.waits = append(b.waits, waitedFor{skb: f.Skb, top: top})
			open = &b.waits[len(b.waits)-1]
		}
		open.cause, open.fromMonoNs = cause, max(open.fromMonoNs, nd.exit)
	}
	b.findWriteWait(j)
	b.waits = slices.DeleteFunc(b.waits, func(w waitedFor) bool { return !w.ended || w.expired })
	b.trace.Waits = len(b.waits)
	slices.SortStableFunc(b.waits, func(x, y waitedFor) int { return cmp.Compare(x.fromMonoNs, y.fromMonoNs) })
}

// findWriteWait adds the time before the first frame, with which the trace begins
// when it is known.
func (b *Builder) findWriteWait(j *journey.Journey) {
	if len(b.nester.nodes) == 0 || b.trace.EnterMonoNs == b.nester.nodes[0].enter {
		return
	}
	first := &b.nester.nodes[0]
	b.waits = append(b.waits, waitedFor{
		skb: j.Frames[first.frame].Skb, fromMonoNs: b.trace.EnterMonoNs, toMonoNs: first.enter, cause: WaitWrite, ended: true,
	})
}

// writtenMonoNs is when the first byte of a TCP packet that is sent the first time
// was written, 0 unknown. A segment waits as a part of the packet that it is cut from.
func writtenMonoNs(j *journey.Journey) uint64 {
	if len(j.Apps) == 0 || len(j.Facts) == 0 {
		return 0
	}
	for i := range j.Links {
		l := &j.Links[i]
		if l.Journey == j.ID && (l.What == event.LinkDerived || l.What == event.LinkRetransmitted) {
			return 0
		}
	}
	for i := range j.Apps {
		// Sequence numbers wrap.
		if a := &j.Apps[i]; a.What == event.AppWrites && int32(a.Seq-j.Facts[0].TCPSeq) <= 0 {
			return a.WriteMonoNs
		}
	}
	return 0
}

// openWait is the wait of an skb that has not ended, nil without.
func (b *Builder) openWait(skb uint64) *waitedFor {
	for i := len(b.waits) - 1; i >= 0; i-- {
		if b.waits[i].skb == skb {
			if b.waits[i].ended {
				return nil
			}
			return &b.waits[i]
		}
	}
	return nil
}

// firstWaitID is the index, for spanID, of the first wait: beyond those of the
// frames, whose ids do not depend on what counts as a wait.
const firstWaitID = 1 << 32

// appendWaits appends the spans of the waits from number next on that began no
// later than untilMonoNs, and gives the number of the next one.
func (b *Builder) appendWaits(next int, untilMonoNs, base uint64) int {
	t := &b.trace
	for ; next < len(b.waits) && b.waits[next].fromMonoNs <= untilMonoNs; next++ {
		w := &b.waits[next]
		start, end := within(t.unix(w.fromMonoNs), t.unix(w.toMonoNs), t.Spans[0].EndUnixNs)
		from := len(b.attrs)
		b.add(StringAttr(KeyWait, w.cause.String()))
		b.add(HexAttr(KeySkb, b.skbAddress(w.skb)))
		b.add(IntAttr(KeyOffsetNs, int64(w.fromMonoNs-t.EnterMonoNs)))
		b.add(IntAttr(KeyDurationNs, int64(w.toMonoNs-w.fromMonoNs)))
		s := Span{
			ID: spanID(base, firstWaitID+next), Parent: t.Spans[0].ID, Name: waitSpanNames[w.cause], Wait: true,
			StartUnixNs: start, EndUnixNs: end, EnterMonoNs: w.fromMonoNs, ExitMonoNs: w.toMonoNs,
			Facts: -1, Depth: 1, Attrs: b.cut(from),
		}
		s.Frame.Skb = w.skb
		t.Spans = append(t.Spans, s)
	}
	return next
}

// waitAttrs sums the waits up on the root, by cause.
func (b *Builder) waitAttrs() {
	var perCause [waitCount]uint64
	for i := range b.waits {
		perCause[b.waits[i].cause] += b.waits[i].toMonoNs - b.waits[i].fromMonoNs
	}
	for w := WaitNone + 1; w < waitCount; w++ {
		if perCause[w] > 0 {
			b.add(IntAttr(waitKey(w), int64(perCause[w])))
		}
	}
}
