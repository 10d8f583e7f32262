//go:build vm

package scenario

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The network of the lineage scenarios: two namespaces of their own, so that each
// packet on the wire between them is one that a test sent.
const (
	kinA, kinB     = "kin-a", "kin-b"
	kinIfA, kinIfB = "kina", "kinb"
	kinIPA, kinIPB = "10.77.0.1", "10.77.0.2"
	kinGroup       = "239.77.0.1"
	kinBroadcast   = "10.77.9.255" // on a bridge with two ports

	portSegments = 7701
	portResent   = 7702
	portMulti    = 7703
	portFragment = 7704
	portFlood    = 7705

	kinMSS      = 1448 // MTU 1500 without IP and TCP headers and time stamps
	kinHeaders  = 52   // of IP and TCP
	kinSent     = 20_000
	kinDatagram = 4000 // bytes in kinPieces fragments
	kinPieces   = 3
	kinLost     = 2 // transmissions of one segment, as the nftables rule says
)

const kinScript = `
set -e
modprobe -a veth nf_tables bridge
ip netns add kin-a
ip netns add kin-b
for ns in kin-a kin-b; do ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'; done
ip link add kina netns kin-a address 02:00:00:77:00:01 type veth peer name kinb netns kin-b address 02:00:00:77:00:02
ip -n kin-a link set kina up
ip -n kin-b link set kinb up
ip -n kin-a addr add 10.77.0.1/24 dev kina
ip -n kin-b addr add 10.77.0.2/24 dev kinb
ip -n kin-a neigh add 10.77.0.2 lladdr 02:00:00:77:00:02 dev kina
ip -n kin-b neigh add 10.77.0.1 lladdr 02:00:00:77:00:01 dev kinb
ip -n kin-a route add 239.77.0.0/16 dev kina
ip -n kin-a link add kinbr type bridge mcast_snooping 0
for n in 1 2; do
	ip -n kin-a link add kinp$n master kinbr type veth peer name kinq$n netns kin-b
	ip -n kin-a link set kinp$n up
	ip -n kin-b link set kinq$n up
done
ip -n kin-a link set kinbr up
ip -n kin-a addr add 10.77.9.1/24 brd + dev kinbr
ip netns exec kin-a ethtool -K kina tso off
ip netns exec kin-b ethtool -K kinb gro on
ip netns exec kin-b nft 'table inet kin { chain in { type filter hook input priority 0;
	tcp dport 7702 meta length > 100 limit rate 1/hour burst 2 packets drop; }; }'
`

// kinLink is a link of a root.
type kinLink struct {
	to   *journey // nil for one that is not there
	kind string
}

// lineage is what the scenarios' traffic left.
type lineage struct {
	*outcome
	journeys []*journey
	links    map[string][]kinLink // by trace
	// What the sender's interface counted meanwhile.
	segments, fragments int
}

// TestLineage sends packets of which the kernel makes others, or one of several, and
// expects a trace for each, with links.
func TestLineage(t *testing.T) {
	t.Cleanup(func() {
		for _, ns := range []string{kinA, kinB} {
			_, _ = command("ip", "netns", "del", ns) // the set-up may have failed before
		}
	})
	must(t, "sh", "-c", kinScript)
	l := kinTraffic(t)
	t.Run("summary", func(t *testing.T) {
		checkSums(t, l.outcome, "file")
		checkNothingLost(t, l.outcome)
	})
	t.Run("links", func(t *testing.T) { checkLinks(t, l) })
	t.Run("segments", func(t *testing.T) { checkSegments(t, l) })
	t.Run("merges", func(t *testing.T) { checkMerges(t, l) })
	t.Run("retransmissions", func(t *testing.T) { checkRetransmissions(t, l) })
	t.Run("fragments", func(t *testing.T) { checkFragments(t, l) })
	t.Run("multicast", func(t *testing.T) { checkCopies(t, l, kinGroup, "__udp_enqueue_schedule_skb", 2) })
	t.Run("flood", func(t *testing.T) { checkCopies(t, l, kinBroadcast, "__br_forward", 3) })
	if t.Failed() {
		l.log(t)
	}
}

func (l *lineage) log(t *testing.T) {
	for _, j := range l.journeys {
		t.Logf("%s: end %q, tcp flags %d seq %d length %d: %v", j, j.root.text("otel_kprobe.end"),
			j.root.number("otel_kprobe.tcp.flags"), j.root.number("otel_kprobe.tcp.seq"),
			j.root.number("otel_kprobe.skb.len.first"), j.functions())
		for _, k := range l.links[j.id] {
			t.Logf("    %s %v", k.kind, k.to)
		}
	}
}

// linked gives the traces to which a trace has a link of a kind.
func (l *lineage) linked(j *journey, kind string) []*journey {
	var found []*journey
	for _, k := range l.links[j.id] {
		if k.kind == kind && k.to != nil {
			found = append(found, k.to)
		}
	}
	return found
}

func kinTraffic(t *testing.T) *lineage {
	t.Helper()
	l := &lineage{links: map[string][]kinLink{}}
	p := start(t, "net 10.77.0.0/16")
	before := transmitted(t)
	exchange(t, kinA, kinB, net.JoinHostPort(kinIPB, strconv.Itoa(portSegments)), kinSent)
	time.Sleep(settle)
	l.segments = transmitted(t) - before
	exchange(t, kinA, kinB, net.JoinHostPort(kinIPB, strconv.Itoa(portResent)), 500)
	time.Sleep(settle)
	before = transmitted(t)
	deliver(t, kinIPB, portFragment, 1, kinDatagram)
	l.fragments = transmitted(t) - before
	deliver(t, kinGroup, portMulti, 2, 100)
	deliver(t, kinBroadcast, portFlood, 0, 100)
	l.outcome = p.stop(t)
	l.read(t)
	return l
}

// transmitted is what `ip -s link` says that the sender's interface sent.
func transmitted(t *testing.T) int {
	t.Helper()
	text := must(t, "ip", "netns", "exec", kinA, "cat", "/sys/class/net/"+kinIfA+"/statistics/tx_packets")
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// deliver sends one datagram from kinA to an address, where as many sockets read it.
func deliver(t *testing.T, address string, port, readers, size int) {
	t.Helper()
	to := &net.UDPAddr{IP: net.ParseIP(address), Port: port}
	var conns []*net.UDPConn
	err := inNS(kinB, func() error {
		for range readers {
			conn, err := listenUDP(to)
			if err != nil {
				return err
			}
			conns = append(conns, conn)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = inNS(kinA, func() error {
		conn, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(make([]byte, size))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, size)); err != nil || n != size {
			t.Errorf("read %d bytes of %d: %v", n, size, err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func listenUDP(at *net.UDPAddr) (*net.UDPConn, error) {
	if !at.IP.IsMulticast() {
		return net.ListenUDP("udp4", at)
	}
	link, err := net.InterfaceByName(kinIfB)
	if err != nil {
		return nil, err
	}
	return net.ListenMulticastUDP("udp4", link, at)
}

// read reads the traces and their links.
func (l *lineage) read(t *testing.T) {
	t.Helper()
	l.journeys = readJourneys(t, l.output())
	byID := map[string]*journey{}
	for _, j := range l.journeys {
		byID[j.id] = j
	}
	eachTrace(t, l.output(), func(j *journey, spans ptrace.SpanSlice) {
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			to := byID[link.TraceID().String()]
			if to != nil && to.root.id != link.SpanID().String() {
				t.Errorf("%s: a link leads to %s, but not to its root", j, to)
			}
			l.links[j.id] = append(l.links[j.id], kinLink{to, kind.Str()})
		}
	})
}

// checkLinks expects each link to lead somewhere, from where another leads back. A
// first transmission's trace has been exported when it is sent again.
func checkLinks(t *testing.T, l *lineage) {
	back := map[string]string{
		"segment": "segment_of", "fragment": "fragment_of", "copy": "copy_of",
		"merged": "merged_into", "reassembled": "reassembled_into",
	}
	for kind, other := range back {
		back[other] = kind
	}
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
		sum += size
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
// twice.
func checkRetransmissions(t *testing.T, l *lineage) {
	var sent []*journey
	for _, j := range l.data(portResent) {
		if len(sent) == 0 || j.root.number("otel_kprobe.tcp.seq") == sent[0].root.number("otel_kprobe.tcp.seq") {
			sent = append(sent, j)
		}
	}
	if len(sent) != kinLost+1 {
		t.Fatalf("%d transmissions of the segment, want %d: %v", len(sent), kinLost+1, sent)
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
		if j.root.number("otel_kprobe.tcp.retransmit") != -1 && j.root.number("destination.port") != portResent {
			t.Errorf("%s is called a retransmission", j)
		}
	}
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
	pieces := append(found, l.linked(found[0], "fragment")...)
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
