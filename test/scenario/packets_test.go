//go:build vm

package scenario

import (
	"cmp"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

const (
	pings   = 3
	tcpSize = 5000
)

// everything is all that the tests send, and none of the kernel's own ARP and
// neighbour discovery.
const everything = "icmp or tcp or udp"

// traffic is one run over every kind of packet.
type traffic struct {
	*outcome
	journeys []*journey
	wire     []segment // TCP packets that passed vright
	witness  walkWitness
}

// TestPackets traces every kind of packet once for each backend.
func TestPackets(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			tr := capture(t, backend)
			t.Run("summary", func(t *testing.T) { checkSummary(t, tr, backend) })
			t.Run("ping between namespaces", func(t *testing.T) { checkVethPing(t, tr) })
			t.Run("tcp between namespaces", func(t *testing.T) { checkVethTCP(t, tr) })
			t.Run("udp over ipv6 between namespaces", func(t *testing.T) { checkUDP6(t, tr) })
			t.Run("loopback", func(t *testing.T) { checkLoopback(t, tr) })
			t.Run("drops", func(t *testing.T) { checkDrops(t, tr) })
			t.Run("walk-through", func(t *testing.T) { checkWalk(t, tr) })
			t.Run("replay", func(t *testing.T) { checkReplay(t, tr) })
			t.Run("nothing left behind", checkClean)
		})
	}
}

func capture(t *testing.T, backend string) *traffic {
	t.Helper()
	tr := &traffic{}
	p := start(t, "--backend", backend, "--record", "DIR/recording", everything)
	ping(t, leftNS, rightIP, pings)
	// The tap takes a clone of each packet, which belongs to its journey.
	wire := openTap(t, rightNS, rightIf)
	exchange(t, leftNS, rightNS, net.JoinHostPort(rightIP, strconv.Itoa(portTCP)), tcpSize)
	time.Sleep(settle)
	tr.wire = wire.close(t)
	datagrams(t, "udp", net.JoinHostPort(rightIP6, strconv.Itoa(portUDP6)), 1, 0, true)
	ping(t, "", loopbackIP, pings)
	exchange(t, "", "", net.JoinHostPort(loopbackIP, strconv.Itoa(portLoop)), tcpSize)
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portClosed)), 1, 0, false)
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portRefused)), 1, 0, false)
	tr.witness = walk(t)
	tr.outcome = p.stop(t)
	tr.journeys = readJourneys(t, tr.output())
	return tr
}

func checkSummary(t *testing.T, tr *traffic, backend string) {
	s := &tr.summary
	want := backend
	if backend == "auto" {
		want = autoBackend[series(t)]
	}
	if s.Backend != want {
		t.Errorf("backend %q, want %q", s.Backend, want)
	}
	checkSums(t, tr.outcome, "file")
	checkNothingLost(t, tr.outcome)
	spans, traces := countSpans(t, tr.output())
	if spans != s.Spans || traces != s.Traces || int(traces) != len(tr.journeys) {
		t.Errorf("the file has %d spans in %d traces, the summary %d in %d", spans, traces, s.Spans, s.Traces)
	}
	for _, line := range []string{"listening", "exported " + strconv.FormatUint(s.Spans, 10) + " to file"} {
		if !strings.Contains(tr.stderr, line) {
			t.Errorf("standard error lacks %q:\n%s", line, tr.stderr)
		}
	}
	for _, j := range tr.journeys {
		if j.root.attrs["otel_kprobe.incomplete"] != nil || j.root.attrs["otel_kprobe.frame.lost"] != nil {
			t.Errorf("%s is incomplete", j)
		}
	}
}

// passage is what the root of a packet says of its way.
type passage struct {
	Name       string
	Source     string
	Target     string
	Network    string
	Direction  string // network.io.direction
	Interfaces []string
	NetNS      []string // names, of one that has none its number
}

func passageOf(j *journey) passage {
	p := passage{
		Name: j.root.name, Source: j.root.text("source.address"), Target: j.root.text("destination.address"),
		Network: j.root.text("network.type"), Direction: j.root.text("network.io.direction"),
		Interfaces: j.root.list("otel_kprobe.interfaces"), NetNS: j.root.list("otel_kprobe.netns.names"),
	}
	if p.NetNS == nil { // in one namespace only
		name := j.root.text("otel_kprobe.netns.name")
		p.NetNS = []string{cmp.Or(name, strconv.FormatInt(j.root.number("otel_kprobe.netns.inum"), 10))}
	}
	return p
}

// leftToRight is a packet from left to right; mirrored is its answer.
func leftToRight(name, from, to, network string) passage {
	return passage{
		Name: name, Source: from, Target: to, Network: network, Direction: "transmit",
		Interfaces: []string{leftIf, rightIf}, NetNS: []string{leftNS, rightNS},
	}
}

func mirrored(p passage) passage {
	p.Source, p.Target = p.Target, p.Source
	p.Interfaces = []string{p.Interfaces[1], p.Interfaces[0]}
	p.NetNS = []string{p.NetNS[1], p.NetNS[0]}
	return p
}

func checkPassage(t *testing.T, j *journey, want passage) {
	t.Helper()
	if diff := gocmp.Diff(want, passageOf(j)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", j, diff)
	}
}

// checkEchoes expects one trace for each sequence number from 1 to count.
func checkEchoes(t *testing.T, found []*journey, count int, want passage) {
	t.Helper()
	if len(found) != count {
		t.Fatalf("%d traces of %s %s → %s, want %d", len(found), want.Name, want.Source, want.Target, count)
	}
	for i, j := range found {
		if seq := j.root.number("otel_kprobe.icmp.seq"); seq != int64(i+1) {
			t.Errorf("%s: sequence number %d, want %d", j, seq, i+1)
		}
		checkPassage(t, j, want)
	}
}

// checkRead expects a process to have read the packet.
func checkRead(t *testing.T, j *journey, pid int64, name string) {
	t.Helper()
	if len(j.reads) != 1 {
		t.Errorf("%s was read %d times, want once", j, len(j.reads))
		return
	}
	got := &span{attrs: j.reads[0].attrs}
	if got.number("process.pid") != pid || got.text("thread.name") != name {
		t.Errorf("%s was read by %q, process %d, want %q, process %d",
			j, got.text("thread.name"), got.number("process.pid"), name, pid)
	}
}

func checkVethPing(t *testing.T, tr *traffic) {
	request := leftToRight("packet tx icmp", leftIP, rightIP, "ipv4")
	requests := echoes(tr.journeys, leftIP, rightIP, 8)
	replies := echoes(tr.journeys, rightIP, leftIP, 0)
	checkEchoes(t, requests, pings, request)
	checkEchoes(t, replies, pings, mirrored(request))
	for i := range requests {
		if r, a := requests[i].root.number("otel_kprobe.icmp.id"), replies[i].root.number("otel_kprobe.icmp.id"); r != a || r < 0 {
			t.Errorf("request has ICMP id %d, its reply %d", r, a)
		}
		if name := requests[i].root.text("thread.name"); name != "ping" {
			t.Errorf("%s was sent by %q", requests[i], name)
		}
		if q, a := requests[i].root.text("otel_kprobe.end"), replies[i].root.text("otel_kprobe.end"); q != "consumed" || a != "delivered" {
			t.Errorf("request ended %q, its reply %q: want it consumed by the kernel and delivered to ping", q, a)
		}
		checkRead(t, replies[i], requests[i].root.number("process.pid"), "ping")
		checkHandOver(t, requests[i], leftNS, rightNS)
		checkHandOver(t, replies[i], rightNS, leftNS)
		// The reply is made while icmp_rcv of the request runs.
		if c := requests[i].calls("icmp_rcv"); len(c) != 1 || replies[i].root.start < c[0].start {
			t.Errorf("%s began before %s was received", replies[i], requests[i])
		}
	}
}

// checkHandOver expects spans of both namespaces, all of the first before any of
// the second has begun, and what every kernel calls on either side.
func checkHandOver(t *testing.T, j *journey, from, to string) {
	t.Helper()
	sides := map[int64]string{inodeOf(t, from): from, inodeOf(t, to): to}
	crossed := false
	for _, s := range j.spans {
		side := sides[s.number("otel_kprobe.netns.inum")]
		if side == "" {
			t.Errorf("%s: %s is in namespace %d", j, s.name, s.number("otel_kprobe.netns.inum"))
		}
		crossed = crossed || side == to
		if crossed && side != to {
			t.Errorf("%s: %s is in %s, after a function in %s", j, s.name, from, to)
		}
	}
	order := []string{"ip_output", "dev_hard_start_xmit", "veth_xmit", "ip_local_deliver"}
	if first := missingInOrder(j.functions(), order); first != "" {
		t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
	}
}

// missingInOrder returns the first of want that does not follow its
// predecessors in got, "" when all do.
func missingInOrder(got, want []string) string {
	for _, name := range want {
		i := slices.Index(got, name)
		if i < 0 {
			return name
		}
		got = got[i+1:]
	}
	return ""
}

func checkVethTCP(t *testing.T, tr *traffic) {
	found := port(tr.journeys, portTCP)
	var traced []segment
	for _, j := range found {
		r := j.root
		s := segment{
			from: addrPort(t, r, "source"), to: addrPort(t, r, "destination"),
			seq: uint32(r.number("otel_kprobe.tcp.seq")), ack: uint32(r.number("otel_kprobe.tcp.ack")),
			flags: uint8(r.number("otel_kprobe.tcp.flags")),
		}
		traced = append(traced, s)
		want := leftToRight("packet tx tcp", leftIP, rightIP, "ipv4")
		if s.from.Port() == portTCP {
			want = mirrored(want)
		}
		checkPassage(t, j, want)
	}
	wire := slices.DeleteFunc(slices.Clone(tr.wire), func(s segment) bool {
		return s.from.Port() != portTCP && s.to.Port() != portTCP
	})
	if len(wire) < 7 { // SYN, SYN ACK, ACK, data each way, FIN each way
		t.Errorf("only %d packets passed the wire", len(wire))
	}
	if diff := gocmp.Diff(sorted(wire), sorted(traced)); diff != "" {
		t.Errorf("packets on the wire and traces differ (-wire +traces):\n%s", diff)
	}
}

func addrPort(t *testing.T, s *span, end string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddr(s.text(end + ".address"))
	if err != nil {
		t.Error(err)
	}
	return netip.AddrPortFrom(a, uint16(s.number(end+".port")))
}

// sorted gives comparable texts.
func sorted(segments []segment) []string {
	var texts []string
	for _, s := range segments {
		texts = append(texts, s.from.String()+" → "+s.to.String()+
			" seq "+strconv.Itoa(int(s.seq))+" ack "+strconv.Itoa(int(s.ack))+" flags "+strconv.Itoa(int(s.flags)))
	}
	slices.Sort(texts)
	return texts
}

func checkUDP6(t *testing.T, tr *traffic) {
	want := leftToRight("packet tx udp", leftIP6, rightIP6, "ipv6")
	for _, want := range []passage{want, mirrored(want)} {
		found := port(between(tr.journeys, want.Source, want.Target), portUDP6)
		if len(found) != 1 {
			t.Fatalf("%d traces of %s %s → %s, want 1", len(found), want.Name, want.Source, want.Target)
		}
		checkPassage(t, found[0], want)
		if end := found[0].root.text("otel_kprobe.end"); end != "delivered" {
			t.Errorf("%s ended %q, want delivered", found[0], end)
		}
		order := []string{"ip6_output", "veth_xmit", "ip6_input"}
		if first := missingInOrder(found[0].functions(), order); first != "" {
			t.Errorf("%s lacks %s: %v", found[0], first, found[0].functions())
		}
	}
}

func checkLoopback(t *testing.T, tr *traffic) {
	want := passage{
		Name: "packet tx icmp", Source: loopbackIP, Target: loopbackIP, Network: "ipv4", Direction: "transmit",
		Interfaces: []string{"lo"}, NetNS: []string{firstNS(t)},
	}
	checkEchoes(t, echoes(tr.journeys, loopbackIP, loopbackIP, 8), pings, want)
	checkEchoes(t, echoes(tr.journeys, loopbackIP, loopbackIP, 0), pings, want)
	segments := port(tr.journeys, portLoop)
	if len(segments) < 7 {
		t.Errorf("%d traces of TCP on loopback, want at least 7", len(segments))
	}
	want.Name = "packet tx tcp"
	type key struct{ port, seq, ack, flags, length int64 }
	seen := map[key]bool{}
	for _, j := range segments {
		checkPassage(t, j, want)
		r := j.root
		k := key{
			r.number("source.port"), r.number("otel_kprobe.tcp.seq"), r.number("otel_kprobe.tcp.ack"),
			r.number("otel_kprobe.tcp.flags"), r.number("otel_kprobe.skb.len.first"),
		}
		// What an acknowledgement that is late brings about is the same packet again.
		again := r.number("otel_kprobe.tcp.retransmit") > 0 || k.flags == tcpAck
		if seen[k] && !again {
			t.Errorf("%s: packet %+v has two traces", j, k)
		}
		seen[k] = true
	}
}

// firstNS is what a root calls the first network namespace, which has no name
// from `ip netns`.
func firstNS(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/run/netns/init"); err == nil {
		t.Fatal("a namespace is called init")
	}
	return strconv.FormatInt(inodeOf(t, ""), 10)
}

// dropReasons are the kernel's names; 5.10 has none, and says so.
var dropReasons = map[string]struct{ closed, refused string }{
	"5.10": {"NOT_SPECIFIED", "NOT_SPECIFIED"},
	"6.1":  {"NO_SOCKET", "NETFILTER_DROP"},
	"6.12": {"NO_SOCKET", "NETFILTER_DROP"},
	"7.3":  {"NO_SOCKET", "NETFILTER_DROP"},
}

func checkDrops(t *testing.T, tr *traffic) {
	want := dropReasons[series(t)]
	checkDrop(t, tr, portClosed, want.closed)
	checkDrop(t, tr, portRefused, want.refused)
}

func checkDrop(t *testing.T, tr *traffic, number int64, reason string) {
	t.Helper()
	found := where(port(tr.journeys, number), func(j *journey) bool { return j.root.name == "packet tx udp" })
	if len(found) != 1 {
		t.Fatalf("%d traces of the datagram to port %d, want 1", len(found), number)
	}
	j := found[0]
	checkPassage(t, j, leftToRight("packet tx udp", leftIP, rightIP, "ipv4"))
	r := j.root
	if !r.failed || !strings.Contains(r.message, reason) || r.text("error.type") != reason ||
		r.text("otel_kprobe.drop.reason") != reason || r.text("otel_kprobe.end") != "dropped" {
		t.Errorf("%s: status Error %v %q, error.type %q, end %q; want a drop for %s",
			j, r.failed, r.message, r.text("error.type"), r.text("otel_kprobe.end"), reason)
	}
	if r.text("otel_kprobe.drop.location") == "" {
		t.Errorf("%s does not say where it was dropped", j)
	}
	if failed := slices.IndexFunc(j.spans, func(s *span) bool { return s.failed }); failed < 0 {
		t.Errorf("%s: no function has status Error", j)
	}
}
