//go:build vm

package scenario

import (
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	routedFrom, routedTo = "10.94.1.2", "10.94.2.2" // through prt
	routerIP             = "10.94.1.1"
	nowhereIP            = "10.95.0.1" // the router has no route there
	unroutedIP           = "10.99.9.9" // pba has no route there
	portShut             = 7098        // nothing listens, in psb
	portFull             = 7099        // a socket of psb that is read late
	pathsFilter          = "icmp and not net 10.92.2.0/24 or udp port 6081 or udp dst portrange 7098-7099"
	floods               = 12
)

// paths is what TestPaths has seen.
type paths struct {
	journeys []*journey
	passed   map[string]int64 // packets by interface, counted by the kernel
	refused  int64            // datagrams that found the socket full, counted by the kernel
	lone     string           // name of a namespace without one
}

// TestPaths sends packets through the networks that a host has every day, under one
// tracer, and holds each packet's trace against the way that it must have gone. What
// is in tunnels is sent once more, to a filter of tunnels.
func TestPaths(t *testing.T) {
	setUpPaths(t)
	tr := start(t, pathsFilter)
	p := &paths{}
	for _, tunnel := range tunnels() {
		ping(t, "pta", tunnel.to, 1)
	}
	ping(t, "pba", "10.93.0.2", 2)
	before := linkCounters(t)
	ping(t, "psa", routedTo, 2)
	p.unanswered(t, "psa", "-t", "1", routedTo)
	p.unanswered(t, "psa", nowhereIP)
	p.unanswered(t, "psa", "-M", "do", "-s", "1300", routedTo)
	p.unanswered(t, "pba", unroutedIP)
	p.knock(t)
	p.flood(t)
	p.lone = lonePing(t)
	time.Sleep(settle)
	p.passed = linkCounters(t)
	for link, count := range before {
		p.passed[link] -= count
	}
	o := tr.stop(t)
	checkSums(t, o, "file")
	if series(t) != "5.10" { // see lacksReturns
		checkNothingLost(t, o)
	}
	p.journeys = readJourneys(t, o.output())

	for _, tunnel := range tunnels() {
		t.Run(tunnel.name, func(t *testing.T) { checkTunnel(t, p, tunnel) })
	}
	t.Run("bridge", func(t *testing.T) { checkBridge(t, p) })
	t.Run("router", func(t *testing.T) { checkRouter(t, p) })
	t.Run("counters", func(t *testing.T) { checkCounters(t, p) })
	for _, drop := range pathDrops(t) {
		t.Run(drop.name, func(t *testing.T) { checkPathDrop(t, p, drop) })
	}
	t.Run("full socket", func(t *testing.T) { checkFullSocket(t, p) })
	t.Run("late interface", func(t *testing.T) { checkLone(t, p) })
	t.Run("filter of tunnels", checkTunnelFilter)
	t.Run("nothing left behind", checkClean)
}

// unanswered sends one echo request that nobody will answer.
func (p *paths) unanswered(t *testing.T, ns string, args ...string) {
	t.Helper()
	args = append([]string{"ip", "netns", "exec", ns, "ping", "-q", "-c", "1", "-W", "1"}, args...)
	if out, err := command(args...); err == nil {
		t.Fatalf("%v has an answer: %s", args, out)
	}
}

// knock sends a datagram to a port on which nobody listens.
func (p *paths) knock(t *testing.T) {
	t.Helper()
	if err := send("psa", portShut, 1); err != nil {
		t.Fatal(err)
	}
}

// flood sends more to a socket than it has room for, then reads what it has.
func (p *paths) flood(t *testing.T) {
	t.Helper()
	var conn net.PacketConn
	listen := func() (err error) {
		conn, err = net.ListenPacket("udp4", net.JoinHostPort(routedTo, strconv.Itoa(portFull)))
		return err
	}
	if err := inNS("psb", listen); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.UDPConn).SetReadBuffer(1); err != nil { // the kernel makes it the least
		t.Fatal(err)
	}
	if err := send("psa", portFull, floods); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settle)
	p.refused = udpErrors(t, "psb")
	for range floods - p.refused {
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadFrom(make([]byte, 2048)); err != nil {
			t.Fatal(err)
		}
	}
}

// send sends datagrams of 600 bytes to a port of psb.
func send(ns string, port, count int) error {
	return inNS(ns, func() error {
		conn, err := net.Dial("udp4", net.JoinHostPort(routedTo, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range count {
			if _, err := conn.Write(make([]byte, 600)); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
}

// udpErrors is how many datagrams a namespace has dropped since their socket was full.
func udpErrors(t *testing.T, ns string) int64 {
	t.Helper()
	var names, values []string
	err := inNS(ns, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); fields[0] == "Udp:" {
				names, values = values, fields
			}
		}
		return err
	})
	at := slices.Index(names, "RcvbufErrors")
	if err != nil || at < 0 || at >= len(values) {
		t.Fatalf("no RcvbufErrors in %v %v: %v", names, values, err)
	}
	n, err := strconv.ParseInt(values[at], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkOrder expects functions in this order, others between them.
func checkOrder(t *testing.T, j *journey, order ...string) {
	t.Helper()
	if first := missingInOrder(j.functions(), order); first != "" {
		t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
	}
}

// oneEcho is the only echo of a type between two addresses.
func oneEcho(t *testing.T, p *paths, from, to string, icmpType int64) *journey {
	t.Helper()
	found := echoes(p.journeys, from, to, icmpType)
	if len(found) != 1 {
		t.Fatalf("%d traces of the echo %s → %s, want 1: %v", len(found), from, to, found)
	}
	return found[0]
}

func checkBridge(t *testing.T, p *paths) {
	want := passage{
		Name: "packet tx icmp", Source: "10.93.0.1", Target: "10.93.0.2", Network: "ipv4", Direction: "transmit",
		Interfaces: []string{"pbx", "pp1", "pp2", "pby"}, NetNS: []string{"pba", "pbr", "pbb"},
	}
	order := []string{
		"veth_xmit", "__netif_receive_skb_core", "br_handle_frame", "br_handle_frame_finish", "br_forward", "__br_forward",
		"br_dev_queue_push_xmit", "veth_xmit", "ip_rcv", "icmp_rcv",
	}
	if series(t) == "5.10" { // of modules, it has the functions of a list
		order = slices.DeleteFunc(order, func(name string) bool { return name == "br_handle_frame" })
	}
	requests := echoes(p.journeys, want.Source, want.Target, 8)
	checkEchoes(t, requests, 2, want)
	for _, j := range requests {
		checkOrder(t, j, order...)
	}
	slices.Reverse(want.Interfaces)
	slices.Reverse(want.NetNS)
	want.Source, want.Target = want.Target, want.Source
	checkEchoes(t, echoes(p.journeys, want.Source, want.Target, 0), 2, want)
}

func checkRouter(t *testing.T, p *paths) {
	want := passage{
		Name: "packet tx icmp", Source: routedFrom, Target: routedTo, Network: "ipv4", Direction: "transmit",
		Interfaces: []string{"psv", "pr1", "pr2", "pdv"}, NetNS: []string{"psa", "prt", "psb"},
	}
	requests := where(echoes(p.journeys, routedFrom, routedTo, 8), func(j *journey) bool { return !j.root.failed })
	checkEchoes(t, requests, 2, want)
	for _, j := range requests {
		checkOrder(t, j, "ip_output", "veth_xmit", "ip_rcv", "ip_forward", "ip_output", "veth_xmit", "ip_rcv", "icmp_rcv")
	}
	slices.Reverse(want.Interfaces)
	slices.Reverse(want.NetNS)
	want.Source, want.Target = routedTo, routedFrom
	checkEchoes(t, echoes(p.journeys, routedTo, routedFrom, 0), 2, want)
	if found := where(p.journeys, func(j *journey) bool { return j.root.text("destination.address") == unroutedIP }); len(found) != 0 {
		t.Errorf("%v: a packet without a route was never made", found)
	}
}

// checkCounters expects as many traces to have passed each interface as the kernel
// has counted packets there.
func checkCounters(t *testing.T, p *paths) {
	traced := map[string]int64{}
	for link := range p.passed {
		traced[link] = int64(len(where(p.journeys, func(j *journey) bool {
			return slices.Contains(j.root.list("otel_kprobe.interfaces"), link)
		})))
	}
	if diff := gocmp.Diff(p.passed, traced); diff != "" {
		t.Errorf("packets by interface (-counted by the kernel +traced):\n%s", diff)
	}
}

func checkLone(t *testing.T, p *paths) {
	checkPassage(t, oneEcho(t, p, "10.96.0.1", "10.96.0.2", 8), passage{
		Name: "packet tx icmp", Source: "10.96.0.1", Target: "10.96.0.2", Network: "ipv4", Direction: "transmit",
		Interfaces: []string{"pl0", "pl1"}, NetNS: []string{"psa", p.lone},
	})
}
