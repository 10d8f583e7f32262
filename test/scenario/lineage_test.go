//go:build vm

package scenario

import (
	"net"
	"runtime"
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
	receiveOnEachCPU(t)
	l.outcome = p.stop(t)
	l.read(t)
	return l
}

// receiveOnEachCPU lets each processor receive packets of its own, which no filter of the
// tests matches: it frees first what others have left to it (docs/kernels.md, "Why a
// deferred free is no wait"), such as a datagram with its fragments.
func receiveOnEachCPU(t *testing.T) {
	t.Helper()
	for cpu := range runtime.NumCPU() {
		must(t, "taskset", "-c", strconv.Itoa(cpu), "ping", "-q", "-c", "1", "127.0.0.1")
	}
	time.Sleep(settle)
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
