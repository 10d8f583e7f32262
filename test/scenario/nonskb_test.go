//go:build vm

package scenario

import (
	"errors"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	keyNoSkb = "otel_kprobe.no_skb"
	// portForbidden is dropped by an nftables rule in left, before it is sent.
	portForbidden = 9997
	nonSkbPings   = 5
)

// nonSkbCallers take an skb and are probed on every kernel; fewer than the
// default, so that single kprobes are attached quickly.
const nonSkbCallers = "__ip_local_out|ip_output|ip_finish_output2|__dev_queue_xmit|ip_rcv|ip_route_input_noref|" +
	"ip_local_deliver|icmp_rcv|nf_hook_slow"

// nonSkbFuncs take none. The last is no function at all.
const nonSkbFuncs = "fib_table_lookup|nft_do_chain|dst_release|no_such_function"

// TestNonSkbFuncs expects functions without an skb in the frames that call them,
// and nothing of what other threads call meanwhile.
func TestNonSkbFuncs(t *testing.T) {
	must(t, "ip", "netns", "exec", leftNS, "nft", `table inet nonskb { chain out {
		type filter hook output priority 0; udp dport `+strconv.Itoa(portForbidden)+` drop; }; }`)
	t.Cleanup(func() { must(t, "ip", "netns", "exec", leftNS, "nft", "delete table inet nonskb") })
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			o := nonSkbTraffic(t, backend)
			all := readJourneys(t, o.output())
			checkSums(t, o, "file")
			checkNothingLost(t, o)
			t.Run("only within frames", func(t *testing.T) { checkWithinFrames(t, all) })
			t.Run("ping", func(t *testing.T) { checkNonSkbPing(t, all) })
			t.Run("dropped on receive", func(t *testing.T) {
				checkCallees(t, nonSkbUDP(t, all, portRefused), []string{
					"nft_do_chain in nf_hook_slow", // of left, which accepts it
					"fib_table_lookup in ip_route_input_noref", "nft_do_chain in nf_hook_slow",
				})
			})
			// The rule frees the skb and with it its route: that is after the
			// skb's end, in a frame that goes on.
			t.Run("dropped on send", func(t *testing.T) {
				checkCallees(t, nonSkbUDP(t, all, portForbidden), []string{
					"nft_do_chain in nf_hook_slow", "dst_release in " + nftDropsIn[series(t)],
				})
			})
			t.Run("replay", func(t *testing.T) { checkReplay(t, &traffic{outcome: o, journeys: all}) })
			t.Run("nothing left behind", checkClean)
		})
	}
}

// nftDropsIn is the function in which a packet ends that a rule drops. Since Linux
// 6.7 it is freed where the rule is met, to tell the place.
var nftDropsIn = map[string]string{
	"5.10": "nf_hook_slow", "6.1": "nf_hook_slow", "6.12": "nft_do_chain", "7.3": "nft_do_chain",
}

// nonSkbTraffic traces some packets while other threads call the same functions.
func nonSkbTraffic(t *testing.T, backend string) *outcome {
	t.Helper()
	p := start(t, "--backend", backend, "--filter-func", nonSkbCallers, "--non-skb-funcs", nonSkbFuncs, "--record", "DIR/recording",
		"host "+leftIP+" and (icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply or udp)")
	// Not too often: the kernel leaves out a probe that comes while one of these
	// is at work on the same CPU.
	others := exec.Command("sh", "-c", "while :; do ip route get "+hostIP+"; sleep 0.02; done >/dev/null")
	if err := others.Start(); err != nil {
		t.Fatal(err)
	}
	ping(t, leftNS, rightIP, nonSkbPings)
	for _, port := range []int{portRefused, portForbidden} {
		sendForbidden(t, net.JoinHostPort(rightIP, strconv.Itoa(port)))
	}
	if err := others.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = others.Wait() // it was killed
	return p.stop(t)
}

// sendForbidden sends one datagram from left, which a rule may refuse.
func sendForbidden(t *testing.T, address string) {
	t.Helper()
	err := inNS(leftNS, func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("datagram")); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// callees lists the spans of functions without an skb as "NAME in PARENT", in
// the order of entry.
func (j *journey) callees() []string {
	var list []string
	for _, parent := range append([]*span{j.root}, j.spans...) {
		for _, s := range parent.children {
			if s.attrs[keyNoSkb] == true {
				list = append(list, s.name+" in "+parent.name)
			}
		}
	}
	return list
}

// checkWithinFrames expects of each such span that a frame of the packet is
// around it, and that it says nothing of an skb; and of all others no mark.
func checkWithinFrames(t *testing.T, all []*journey) {
	t.Helper()
	names := []string{"fib_table_lookup", "nft_do_chain", "dst_release"}
	for _, j := range all {
		for _, s := range j.root.children {
			if s.attrs[keyNoSkb] != nil {
				t.Errorf("%s: %s runs in no frame", j, s.name)
			}
		}
		for _, s := range j.spans {
			if marked := s.attrs[keyNoSkb] == true; marked != slices.Contains(names, s.name) {
				t.Errorf("%s: %s has %s %v", j, s.name, keyNoSkb, s.attrs[keyNoSkb])
			} else if marked && (s.attrs["otel_kprobe.skb.address"] != nil || s.attrs["otel_kprobe.skb.len"] != nil) {
				t.Errorf("%s: %s claims an skb: %v", j, s.name, s.attrs)
			}
		}
	}
}

// checkNonSkbPing expects the route of each packet to be looked up where it
// arrives, and the rules of right to be run on what arrives there.
func checkNonSkbPing(t *testing.T, all []*journey) {
	t.Helper()
	requests, replies := echoes(all, leftIP, rightIP, 8), echoes(all, rightIP, leftIP, 0)
	if len(requests) != nonSkbPings || len(replies) != nonSkbPings {
		t.Fatalf("%d requests and %d replies, want %d of each: %v", len(requests), len(replies), nonSkbPings, all)
	}
	without := func(j *journey, name string) []string {
		return slices.DeleteFunc(j.callees(), func(s string) bool { return s == name })
	}
	for _, j := range requests {
		// The answer's route is looked up while the request is being received.
		// Which skbs hold a reference of their route differs between kernels.
		checkList(t, j, []string{
			"nft_do_chain in nf_hook_slow", // of left
			"fib_table_lookup in ip_route_input_noref", "nft_do_chain in nf_hook_slow", "fib_table_lookup in icmp_rcv",
		}, slices.DeleteFunc(without(j, "dst_release in icmp_rcv"), func(s string) bool { return s == "dst_release in __dev_queue_xmit" }))
		for _, s := range j.calls("nft_do_chain") {
			if s.number("otel_kprobe.return") != 1 || s.number("otel_kprobe.duration_ns") <= 0 {
				t.Errorf("%s: nft_do_chain does not accept: %v", j, s.attrs)
			}
		}
	}
	for _, j := range replies {
		checkList(t, j, []string{"fib_table_lookup in ip_route_input_noref"}, without(j, "dst_release in __dev_queue_xmit"))
	}
}

// nonSkbUDP is the datagram to a port.
func nonSkbUDP(t *testing.T, all []*journey, port int64) *journey {
	t.Helper()
	for _, j := range all {
		if j.root.number("destination.port") == port {
			return j
		}
	}
	t.Fatalf("no datagram to port %d among %v", port, all)
	return nil
}

func checkCallees(t *testing.T, j *journey, want []string) {
	t.Helper()
	checkList(t, j, want, slices.DeleteFunc(j.callees(), func(s string) bool { return s == "dst_release in __dev_queue_xmit" }))
	if !j.root.failed {
		t.Errorf("%s is not dropped", j)
	}
}

func checkList(t *testing.T, j *journey, want, got []string) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s: functions without an skb (-want +got):\n%s", j, diff)
	}
}
