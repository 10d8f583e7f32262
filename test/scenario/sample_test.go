//go:build vm

package scenario

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	sampleUDP, sampleUDP6, sampleTCP, samplePings = 120, 40, 24, 8 // flows

	portSample = 7030
	// sampleShare is 1/4; what is kept has a randomness of at least sampleThreshold.
	sampleShare     = "0.25"
	sampleThreshold = 3 << 54
	sampleState     = "ot=th:c;rv:"
)

// TestSample lets one tracer follow all flows and another a quarter of them, and
// expects of the latter the packets of just the flows that the hash chooses, which is
// computed here anew.
func TestSample(t *testing.T) {
	expression := fmt.Sprintf("icmp or port %d", portSample)
	full := launch(t, "--filter-func", few, expression)
	sampled := launch(t, "--filter-func", few, "--sample", sampleShare, "--record", "DIR/recording", expression)
	full.waitReady(t)
	sampled.waitReady(t)
	sendFlows(t)
	whole, part := full.stop(t), sampled.stop(t)
	checkSums(t, part, "file")
	checkNothingLost(t, part)

	all, kept := readJourneys(t, whole.output()), readJourneys(t, part.output())
	want, flows, chosen := map[string]int{}, map[uint64]bool{}, 0
	for _, j := range all {
		r := randomnessOf(t, j)
		if !flows[r] && r >= sampleThreshold {
			chosen++
		}
		flows[r] = true
		if r >= sampleThreshold {
			want[flowOf(t, j)]++
		}
	}
	if n := sampleUDP + sampleUDP6 + sampleTCP + samplePings; len(flows) != n {
		t.Errorf("packets of %d flows, want %d", len(flows), n)
	}
	checkShare(t, chosen, len(flows))
	got := map[string]int{}
	for _, j := range kept {
		got[flowOf(t, j)]++
		checkState(t, j, fmt.Sprintf("%s%014x", sampleState, randomnessOf(t, j)))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("packets by flow and direction (-want +got):\n%s", diff)
	}
	if n := part.summary.Unsampled; int(n)+len(kept) != len(all) {
		t.Errorf("%d packets are kept and %d counted as left out, of %d", len(kept), n, len(all))
	}
	for _, j := range all[:1] {
		checkState(t, j, "")
	}
	checkReplayedBytes(t, part)
	checkClean(t)
}

// sendFlows sends datagrams from many ports, makes connections, and pings, each with
// an answer.
func sendFlows(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		network, from, to string
		count             int
	}{{"udp4", leftIP, rightIP, sampleUDP}, {"udp6", leftIP6, rightIP6, sampleUDP6}} {
		server := udpEcho(t, c.network, net.JoinHostPort(c.to, strconv.Itoa(portSample)))
		for i := range c.count {
			if err := inNS(leftNS, func() error { return askFrom(c.from, 20000+i, server.LocalAddr()) }); err != nil {
				t.Fatal(err)
			}
		}
		_ = server.Close() // only to end its goroutine
	}
	for range sampleTCP {
		exchange(t, leftNS, rightNS, net.JoinHostPort(rightIP, strconv.Itoa(portSample)), 200)
	}
	for range samplePings {
		ping(t, leftNS, rightIP, 1)
	}
}

// askFrom sends one datagram from a port and waits for the answer.
func askFrom(address string, from int, to net.Addr) error {
	local := &net.UDPAddr{IP: net.ParseIP(address), Port: from}
	conn, err := net.DialUDP("udp", local, to.(*net.UDPAddr))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("question")); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 64))
	return err
}

// flowOf names the flow of a packet, and its direction.
func flowOf(t *testing.T, j *journey) string {
	t.Helper()
	source, destination, protocol := tupleOf(t, j)
	return fmt.Sprintf("%d %s → %s", protocol, source, destination)
}

// tupleOf is what the packet's flow is known by.
func tupleOf(t *testing.T, j *journey) (source, destination netip.AddrPort, protocol uint64) {
	t.Helper()
	port := func(key string) uint16 { return uint16(max(0, j.root.number(key))) }
	from, to := port("source.port"), port("destination.port")
	switch {
	case strings.HasSuffix(j.root.name, " tcp"):
		protocol = 6
	case strings.HasSuffix(j.root.name, " udp"):
		protocol = 17
	case strings.HasSuffix(j.root.name, " icmp"):
		protocol = 1
		from = port("otel_kprobe.icmp.id")
		to = from
	default:
		t.Fatalf("%s is of no flow that this test sends", j)
	}
	address := func(key string) netip.Addr {
		a, err := netip.ParseAddr(j.root.text(key))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return netip.AddrPortFrom(address("source.address"), from), netip.AddrPortFrom(address("destination.address"), to), protocol
}

// randomnessOf is the hash of a packet's flow as docs/spans.md defines it.
func randomnessOf(t *testing.T, j *journey) uint64 {
	t.Helper()
	source, destination, protocol := tupleOf(t, j)
	const golden = 0x9e3779b97f4a7c15
	end := func(of netip.AddrPort) uint64 {
		var high, low uint64
		if a := of.Addr(); a.Is4() {
			low = uint64(binary.LittleEndian.Uint32(a.AsSlice()))
		} else {
			high, low = binary.LittleEndian.Uint64(a.AsSlice()), binary.LittleEndian.Uint64(a.AsSlice()[8:])
		}
		return splitMix(splitMix(high+uint64(of.Port())*golden) ^ low)
	}
	return splitMix(end(source)+end(destination)+protocol*golden) >> 8
}

// splitMix is the finalizer of https://prng.di.unimi.it/splitmix64.c.
func splitMix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// checkState expects a trace state on each span.
func checkState(t *testing.T, j *journey, want string) {
	t.Helper()
	for _, list := range [][]*span{{j.root}, j.spans, j.waits} {
		for _, s := range list {
			if s.state != want {
				t.Errorf("%s: %s has the trace state %q, want %q", j, s.name, s.state, want)
				return
			}
		}
	}
}

// checkShare expects a number near a quarter: five standard deviations, no chance.
func checkShare(t *testing.T, kept, of int) {
	t.Helper()
	n := float64(of)
	t.Logf("kept %d of %d", kept, of)
	if deviation := math.Sqrt(n / 4 * 3 / 4); math.Abs(float64(kept)-n/4) > 5*deviation {
		t.Errorf("%d of %d are kept, want about a quarter", kept, of)
	}
}

// TestBlockSample lets one tracer follow all reads from a disk and from two that are
// made of others, and another a quarter: each with what it causes below, or not at all.
func TestBlockSample(t *testing.T) {
	const reads = 60
	loadBlockModules(t)
	plain, below := nullDisk(t, 0, nil), nullDisk(t, 1, nil)
	first, second := nullDisk(t, 2, nil), nullDisk(t, 3, nil)
	linear := linearDisk(t, "sample", extent{below, 0, 65536})
	striped := raidDisk(t, 7, 0, first, second)
	var devices []string
	for _, d := range []disk{plain, below, first, second, linear, striped} {
		devices = append(devices, "--device", string(d))
	}
	tracers := launchEach(t, [][]string{devices, append([]string{"--sample", sampleShare, "--record", "DIR/recording"}, devices...)})
	for i := range uint64(reads) {
		for _, d := range []disk{plain, linear, striped} {
			if err := readDirect(t, d.node(), 8*i, ioSize); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole, part := tracers[0].stop(t), tracers[1].stop(t)
	all, kept := checkBlockSums(t, whole), checkBlockSums(t, part)
	if kept.Requests+kept.Unsampled != all.Requests || all.Unsampled != 0 {
		t.Errorf("%d requests are kept and %d counted as left out, of %d", kept.Requests, kept.Unsampled, all.Requests)
	}
	if diff := gocmp.Diff(all.counts(), kept.counts()); diff != "" {
		t.Errorf("histogram of all requests (-all +sampled):\n%s", diff)
	}
	checkShare(t, int(kept.Traces), int(all.Traces))
	trees := map[string]int{}
	for _, r := range readRequests(t, whole.output()) {
		trees[r.String()] = len(r.all())
	}
	for _, r := range readRequests(t, part.output()) {
		if n := len(r.all()); n != trees[r.String()] {
			t.Errorf("%s is kept with %d of its %d requests", r, n, trees[r.String()])
		}
	}
	checkBlockStates(t, part)
	checkReplayedBytes(t, part)
	checkClean(t)
}

// checkBlockStates expects of each trace one randomness, of its own, that reaches the
// threshold.
func checkBlockStates(t *testing.T, o *outcome) {
	t.Helper()
	states := map[string]bool{}
	eachTrace(t, o.output(), func(j *journey, _ ptrace.SpanSlice) {
		checkState(t, j, j.root.state)
		digits, ok := strings.CutPrefix(j.root.state, sampleState)
		randomness, err := strconv.ParseUint(digits, 16, 56)
		if !ok || err != nil || len(digits) != 14 || randomness < sampleThreshold || states[digits] {
			t.Errorf("trace %s has the trace state %q", j.id, j.root.state)
		}
		states[digits] = true
	})
}
