//go:build vm

package scenario

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// The network of the scenario of GRO's list mode: what chain-a sends is received by
// chra, which chains it. chrb and chd3 are given the datagrams one by one, chrl and
// chd5 take a list as it is.
//
//	chain-a  cha 10.78.1.1 ── 10.78.1.2 chra  chain-r  chrb 10.78.2.2 ── 10.78.2.1 chb  chain-b
//	                                                   chrl 10.78.4.2 ── 10.78.4.1 chl
//	                                                   chd3 10.78.3.2, chd5 10.78.5.2 (dummies)
const chainScript = `
set -e
modprobe -a veth dummy nf_tables
for ns in chain-a chain-r chain-b; do
	ip netns add $ns
	ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
done
pair() { # namespace, interface and host of one end, namespace and interface of the other, net, its host
	ip link add $2 netns $1 address 02:00:00:78:0$6:0$3 type veth peer name $5 netns $4 address 02:00:00:78:0$6:0$7
	ip -n $1 link set $2 up
	ip -n $4 link set $5 up
	ip -n $1 addr add 10.78.$6.$3/24 dev $2
	ip -n $4 addr add 10.78.$6.$7/24 dev $5
	ip -n $1 neigh add 10.78.$6.$7 lladdr 02:00:00:78:0$6:0$7 dev $2
	ip -n $4 neigh add 10.78.$6.$3 lladdr 02:00:00:78:0$6:0$3 dev $5
}
pair chain-a cha 1 chain-r chra 1 2
pair chain-r chrb 2 chain-b chb 2 1
pair chain-r chrl 2 chain-b chl 4 1
for n in 3 5; do
	ip -n chain-r link add chd$n type dummy
	ip -n chain-r link set chd$n up
	ip -n chain-r addr add 10.78.$n.2/24 dev chd$n
	ip -n chain-r neigh add 10.78.$n.1 lladdr 02:00:00:78:0$n:01 dev chd$n
done
ip -n chain-a route add default via 10.78.1.2
ip -n chain-b route add default via 10.78.2.2
ip netns exec chain-r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip netns exec chain-a sh -c 'echo 8 >/proc/sys/net/ipv4/tcp_min_tso_segs' # at once: the last of them has a flag that chains none
ip netns exec chain-a ethtool -K cha tso off tx-udp-segmentation off
ip netns exec chain-r ethtool -K chra gro on rx-gro-list on
ip netns exec chain-r ethtool -K chrb tx-gso-list off
ip netns exec chain-r ethtool -K chd3 tx-gso-list off
ip netns exec chain-r nft 'table inet lists { chain in { type filter hook forward priority 0; udp dport 7806 drop; }; }'
`

const (
	chainA, chainR, chainB = "chain-a", "chain-r", "chain-b"

	chainBurst = 4
	chainBytes = 600 // of each datagram
	chainedTCP = 7807
)

// chainCase is a burst to a port, and what becomes of the first datagram and of
// those that are chained to it.
type chainCase struct {
	name, reader, to string
	port             int64
	first, others    string // ends
	passes           string // a function that each datagram passes once, or with asList the first
	asList           bool   // it ends with the list, which is not cut
}

var chainCases = []chainCase{
	{name: "delivered", reader: chainR, to: "10.78.1.2", port: 7801, first: "delivered", others: "delivered", passes: "__udp_enqueue_schedule_skb"},
	{name: "cut before the next host", reader: chainB, to: "10.78.2.1", port: 7802, first: "delivered", others: "delivered", passes: "veth_xmit"},
	{name: "cut by the next host", reader: chainB, to: "10.78.4.1", port: 7803, first: "delivered", others: "delivered", passes: "__udp_enqueue_schedule_skb"},
	{name: "cut before the device", to: "10.78.3.1", port: 7804, first: "forwarded", others: "forwarded", passes: "dummy_xmit"},
	{name: "sent as a list", to: "10.78.5.1", port: 7805, first: "forwarded", others: "consumed", passes: "dummy_xmit", asList: true},
	{name: "dropped", to: "10.78.3.1", port: 7806, first: "dropped", others: "dropped", asList: true},
}

// dummyTakesLists says whether dummy devices take lists: that of 5.10 is given the
// datagrams one by one.
var dummyTakesLists = map[string]bool{"5.10": false, "6.1": true, "6.12": true, "7.3": true}

// chainsTCP says whether GRO's list mode takes TCP, since 6.10
// (https://git.kernel.org/torvalds/c/8d95dc474f85).
var chainsTCP = map[string]bool{"5.10": false, "6.1": false, "6.12": true, "7.3": true}

// TestGROList sends bursts that GRO chains into a list, and expects each datagram to
// be one trace for all that, with links between it and the first one.
func TestGROList(t *testing.T) {
	t.Cleanup(func() {
		for _, ns := range []string{chainA, chainR, chainB} {
			_, _ = command("ip", "netns", "del", ns) // the set-up may have failed before
		}
	})
	must(t, "sh", "-c", chainScript)
	args := []string{"--filter-netns", chainR, "net 10.78.0.0/16"}
	if !groOfVeth[series(t)] {
		if err := rlimit.RemoveMemlock(); err != nil {
			t.Fatal(err)
		}
		attachXDP(t, chainR, "chra", loadProgram(t, ebpf.XDP, "pass", xdpPass), link.XDPDriverMode)
		args = append(args, "--trace-xdp") // veth copies what its program sees
	}
	l := &lineage{links: map[string][]kinLink{}}
	p := start(t, args...)
	for _, c := range chainCases {
		c.send(t)
	}
	exchange(t, chainA, chainB, net.JoinHostPort("10.78.2.1", strconv.Itoa(chainedTCP)), kinSent)
	l.outcome = p.stop(t)
	l.read(t)
	t.Run("summary", func(t *testing.T) {
		checkSums(t, l.outcome, "file")
		checkNothingLost(t, l.outcome)
	})
	t.Run("links", func(t *testing.T) { checkLinks(t, l) })
	for _, c := range chainCases {
		if c.passes == "dummy_xmit" && !dummyTakesLists[series(t)] {
			c.asList, c.others = false, c.first
		}
		t.Run(c.name, func(t *testing.T) { c.check(t, l) })
	}
	t.Run("tcp", func(t *testing.T) { checkChainedTCP(t, l) })
	if t.Failed() {
		l.log(t)
	}
}

// send has the kernel cut a datagram into the burst, which then arrives at once.
func (c *chainCase) send(t *testing.T) {
	t.Helper()
	address := &net.UDPAddr{IP: net.ParseIP(c.to), Port: int(c.port)}
	var server *net.UDPConn
	if c.reader != "" {
		err := inNS(c.reader, func() (err error) {
			server, err = net.ListenUDP("udp4", address)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	if err := inNS(chainA, func() error { return sendBurst(address) }); err != nil {
		t.Fatal(err)
	}
	for range chainBurst {
		if server == nil {
			return
		}
		if err := server.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := server.Read(make([]byte, 2*chainBytes)); err != nil || n != chainBytes {
			t.Fatalf("read %d bytes of %d: %v", n, chainBytes, err)
		}
	}
}

func sendBurst(to *net.UDPAddr) error {
	conn, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, chainBytes)
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	_, err = conn.Write(make([]byte, chainBurst*chainBytes))
	return err
}

// check expects a trace for each datagram, of which the first has links to the others.
func (c *chainCase) check(t *testing.T, l *lineage) {
	found := port(l.journeys, c.port)
	if len(found) != chainBurst {
		t.Fatalf("%d traces, want %d: %v", len(found), chainBurst, found)
	}
	heads := where(found, func(j *journey) bool { return len(l.linked(j, "chained")) > 0 })
	if len(heads) != 1 || len(l.linked(heads[0], "chained")) != chainBurst-1 {
		t.Fatalf("%v have others chained to them, want one, with %d", heads, chainBurst-1)
	}
	for _, j := range found {
		end, passed := c.others, len(j.calls(c.passes))
		if j == heads[0] {
			end = c.first
		} else if into := l.linked(j, "chained_to"); len(into) != 1 || into[0] != heads[0] {
			t.Errorf("%s is chained to %v, want %s", j, into, heads[0])
		}
		if got := j.root.text("otel_kprobe.end"); got != end || j.root.failed != (end == "dropped") {
			t.Errorf("%s ended %q with Error %v, want %q", j, got, j.root.failed, end)
		}
		if location := j.root.text("otel_kprobe.drop.location"); location != heads[0].root.text("otel_kprobe.drop.location") {
			t.Errorf("%s was dropped at %s, unlike %s", j, location, heads[0])
		}
		if want := c.passes != "" && (j == heads[0] || !c.asList); want != (passed == 1) || passed > 1 {
			t.Errorf("%s passed %s %d times: %v", j, c.passes, passed, j.functions())
		}
		if j != heads[0] && !c.asList {
			checkChainWait(t, j, heads[0])
		}
	}
}

// checkChainWait expects a chained packet to wait while the first one of its list is
// routed, with no function of its own.
func checkChainWait(t *testing.T, j, head *journey) {
	t.Helper()
	routed := head.calls("ip_route_input_noref")
	if len(routed) == 0 {
		t.Fatalf("%s is not routed: %v", head, head.functions())
	}
	for _, w := range j.waits {
		if w.text(keyWait) == "gro" && w.start <= routed[0].start && w.end >= routed[0].end {
			return
		}
	}
	t.Errorf("%s does not wait while %s is routed: %v", j, head, j.functions())
}

// checkChainedTCP expects segments of TCP to be chained where the kernel can, and
// their traces to go on to the socket.
func checkChainedTCP(t *testing.T, l *lineage) {
	chained := 0
	for _, j := range port(l.journeys, chainedTCP) {
		if len(l.linked(j, "chained_to")) == 0 {
			continue
		}
		chained++
		if len(j.calls("veth_xmit")) != 1 || len(j.calls("tcp_v4_rcv")) != 1 {
			t.Errorf("%s was not sent on to the socket: %v", j, j.functions())
		}
	}
	if want := chainsTCP[series(t)]; want != (chained > 0) {
		t.Errorf("%d segments were chained, want some: %v", chained, want)
	}
}
