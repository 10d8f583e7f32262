//go:build vm

package scenario

import (
	"slices"
	"strings"
	"testing"
)

// pathDrop is a packet that the kernel gives up in a certain function.
type pathDrop struct {
	name       string
	find       func(*journey) bool
	reason     string // since Linux 5.17; 5.10 names none
	function   string
	interfaces []string
	netns      []string
	answer     [2]int64 // type and code of the ICMP message that says so
}

func pathDrops(t *testing.T) []pathDrop {
	closed := "__udp4_lib_rcv"
	if series(t) == "7.3" { // there it is inlined
		closed = "udp_rcv"
	}
	echo := func(to string, length int64) func(*journey) bool {
		return func(j *journey) bool {
			return j.root.failed && j.root.text("destination.address") == to && j.root.number("otel_kprobe.skb.len.first") == length
		}
	}
	router := []string{"psv", "pr1"}
	return []pathDrop{
		{
			name: "time to live expired", find: echo(routedTo, 84), reason: "IP_INHDR",
			function: "ip_forward", interfaces: router, netns: []string{"psa", "prt"}, answer: [2]int64{11, 0},
		}, {
			name: "no route", find: echo(nowhereIP, 84), reason: "IP_INNOROUTES",
			function: "ip_error", interfaces: router, netns: []string{"psa", "prt"}, answer: [2]int64{3, 0},
		}, {
			name: "larger than the MTU", find: echo(routedTo, 1328), reason: "PKT_TOO_BIG",
			function: "ip_forward", interfaces: router, netns: []string{"psa", "prt"}, answer: [2]int64{3, 4},
		}, {
			name:   "closed port",
			find:   func(j *journey) bool { return j.root.number("destination.port") == portShut },
			reason: "NO_SOCKET", function: closed,
			interfaces: []string{"psv", "pr1", "pr2", "pdv"}, netns: []string{"psa", "prt", "psb"}, answer: [2]int64{3, 3},
		},
	}
}

// checkPathDrop expects the trace of the packet, its drop where it was made, and
// the trace of the message that the sender got.
func checkPathDrop(t *testing.T, p *paths, want pathDrop) {
	found := where(p.journeys, want.find)
	if len(found) != 1 {
		t.Fatalf("%d traces, want 1: %v", len(found), found)
	}
	j := found[0]
	checkDropped(t, j, want.reason, want.function)
	got := passageOf(j)
	if !slices.Equal(got.Interfaces, want.interfaces) || !slices.Equal(got.NetNS, want.netns) {
		t.Errorf("%s went over %v in %v, want %v in %v", j, got.Interfaces, got.NetNS, want.interfaces, want.netns)
	}
	answers := where(p.journeys, func(a *journey) bool {
		return a.root.text("destination.address") == routedFrom && a.root.number("otel_kprobe.icmp.type") == want.answer[0] &&
			a.root.number("otel_kprobe.icmp.code") == want.answer[1]
	})
	if len(answers) != 1 || answers[0].root.start < j.root.start {
		t.Errorf("%s has the answers %v, want one of type and code %v, later", j, answers, want.answer)
	}
}

// checkDropped expects the root and the function that dropped the packet to say so.
func checkDropped(t *testing.T, j *journey, reason, function string) {
	t.Helper()
	if series(t) == "5.10" {
		reason = "NOT_SPECIFIED"
	}
	r := j.root
	if !r.failed || r.text("error.type") != reason || r.text("otel_kprobe.drop.reason") != reason || r.text("otel_kprobe.end") != "dropped" {
		t.Errorf("%s: status Error %v, error.type %q, end %q; want a drop for %s",
			j, r.failed, r.text("error.type"), r.text("otel_kprobe.end"), reason)
	}
	if at := r.text("otel_kprobe.drop.location"); !strings.HasPrefix(at, function+"+0x") {
		t.Errorf("%s was dropped at %q, want %s", j, at, function)
	}
	var failed []string
	for _, s := range j.spans {
		if s.failed {
			failed = append(failed, s.name)
		}
	}
	if !slices.Equal(failed, []string{function}) {
		t.Errorf("%s has status Error at %v, want %s: %v", j, failed, function, j.functions())
	}
}

// checkFullSocket expects a drop for each datagram that the kernel has counted, and
// a reader for each of the others.
func checkFullSocket(t *testing.T, p *paths) {
	found := where(port(p.journeys, portFull), func(j *journey) bool { return j.root.name == "packet tx udp" })
	if len(found) != floods {
		t.Fatalf("%d traces, want %d", len(found), floods)
	}
	dropped := where(found, func(j *journey) bool { return j.root.failed })
	if int64(len(dropped)) != p.refused || p.refused == 0 || p.refused == floods {
		t.Errorf("%d of %d were dropped, the kernel counted %d", len(dropped), floods, p.refused)
	}
	for _, j := range found {
		if j.root.failed {
			checkDropped(t, j, "SOCKET_RCVBUFF", "udp_queue_rcv_one_skb")
		} else if len(j.reads) != 1 {
			t.Errorf("%s was read %d times, want once", j, len(j.reads))
		}
	}
}
