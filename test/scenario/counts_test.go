//go:build vm

package scenario

import (
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

const (
	countedDatagrams = 200 // each is answered
	countedDrops     = 5   // on receive, so they have passed the interfaces
	countedPings     = 10
	portCounted      = 7020
)

// interfaceCounts is what an interface counted, or what was traced at it.
type interfaceCounts struct{ TxPackets, TxBytes, RxPackets, RxBytes int64 }

// reading is what an interface had counted at a time, CLOCK_REALTIME.
type reading struct {
	interfaceCounts
	fromUnixNs, toUnixNs uint64 // the kernel was asked in between
}

// TestCountsEqualInterfaceCounters holds the number of traces, and the lengths in
// them, against what the interfaces themselves counted between two readings.
func TestCountsEqualInterfaceCounters(t *testing.T) {
	pinNeighbours(t)
	tr := start(t, "--filter-func", "veth_xmit|__netif_receive_skb")
	ends := [2][2]string{{leftNS, leftIf}, {rightNS, rightIf}}
	var before, after [2]reading
	for i, end := range ends {
		before[i] = countersOf(t, end[0], end[1])
	}
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portCounted)), countedDatagrams, 0, true)
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portRefused)), countedDrops, 0, false)
	ping(t, leftNS, rightIP, countedPings)
	time.Sleep(settle)
	for i, end := range ends {
		after[i] = countersOf(t, end[0], end[1])
	}
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)

	all := readJourneys(t, o.output())
	for i, end := range ends {
		counted := interfaceCounts{
			after[i].TxPackets - before[i].TxPackets, after[i].TxBytes - before[i].TxBytes,
			after[i].RxPackets - before[i].RxPackets, after[i].RxBytes - before[i].RxBytes,
		}
		between := where(all, func(j *journey) bool {
			return j.root.start > before[i].toUnixNs && j.root.end < after[i].fromUnixNs
		})
		if diff := gocmp.Diff(counted, tracedAt(t, between, end[1])); diff != "" {
			t.Errorf("%s (-counted +traced):\n%s", end[1], diff)
		}
		if least := int64(countedDatagrams + countedPings); counted.TxPackets < least || counted.RxPackets < least {
			t.Errorf("%s counted %+v, want at least %d packets each way", end[1], counted, least)
		}
	}
}

// pinNeighbours keeps the kernel from asking for addresses meanwhile: each packet
// is one of the test's.
func pinNeighbours(t *testing.T) {
	t.Helper()
	pin := func(ns, device, address, peerNS, peer string) {
		set := func(state string) {
			must(t, "ip", "-n", ns, "neigh", "replace", address, "dev", device, "lladdr", macOf(t, peerNS, peer), "nud", state)
		}
		set("permanent")
		t.Cleanup(func() { set("reachable") })
	}
	pin(leftNS, leftIf, rightIP, rightNS, rightIf)
	pin(rightNS, rightIf, leftIP, leftNS, leftIf)
}

// linkStats is what `ip -s -j link` says of one.
type linkStats struct {
	Address string
	Stats64 struct {
		Rx, Tx struct{ Bytes, Packets int64 }
	}
}

func linkOf(t *testing.T, ns, name string) linkStats {
	t.Helper()
	var links []linkStats
	text := must(t, "ip", "-n", ns, "-s", "-j", "link", "show", "dev", name)
	if err := json.Unmarshal([]byte(text), &links); err != nil || len(links) != 1 {
		t.Fatalf("read the link %s: %v: %s", name, err, text)
	}
	return links[0]
}

func macOf(t *testing.T, ns, name string) string {
	t.Helper()
	return linkOf(t, ns, name).Address
}

func countersOf(t *testing.T, ns, name string) reading {
	t.Helper()
	from := time.Now()
	s := linkOf(t, ns, name).Stats64
	return reading{
		interfaceCounts{s.Tx.Packets, s.Tx.Bytes, s.Rx.Packets, s.Rx.Bytes},
		uint64(from.UnixNano()), uint64(time.Now().UnixNano()),
	}
}

// tracedAt counts the traces of packets that were sent at an interface and that
// were received there. The driver counts an Ethernet header each way; the length
// that is traced on receive is without it.
func tracedAt(t *testing.T, all []*journey, name string) interfaceCounts {
	t.Helper()
	const ethernetHeader = 14
	var c interfaceCounts
	for _, j := range all {
		at := func(function string) *span {
			calls := slices.DeleteFunc(j.calls(function), func(s *span) bool {
				return s.text("network.interface.name") != name
			})
			if len(calls) > 1 {
				t.Errorf("%s passes %s %d times", j, name, len(calls))
			}
			if len(calls) == 0 {
				return nil
			}
			if calls[0].number("otel_kprobe.skb.len") <= 0 {
				t.Errorf("%s: %s has no length: %v", j, function, calls[0].attrs)
			}
			return calls[0]
		}
		if s := at("veth_xmit"); s != nil {
			c.TxPackets++
			c.TxBytes += s.number("otel_kprobe.skb.len")
		}
		if s := at("__netif_receive_skb"); s != nil {
			c.RxPackets++
			c.RxBytes += s.number("otel_kprobe.skb.len") + ethernetHeader
		}
	}
	return c
}
