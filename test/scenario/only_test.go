//go:build vm

package scenario

import (
	"net"
	"strconv"
	"testing"
)

// TestOnly lets packets pass and die, and expects the dead ones alone, and the
// others counted.
func TestOnly(t *testing.T) {
	tr := start(t, "--only", "drops", "icmp or udp port "+strconv.Itoa(portRefused))
	ping(t, "", loopbackIP, pings)
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portRefused)), 1, 0, false)
	o := tr.stop(t)
	checkSums(t, o, "file")
	refused := 0
	for _, j := range readJourneys(t, o.output()) {
		if j.root.text("otel_kprobe.drop.reason") == "" {
			t.Errorf("%s was not dropped", j)
		}
		if j.root.number("destination.port") == portRefused {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d packets were refused, want 1", refused)
	}
	// One of each echo request and reply at least; the reply's other copy is a drop.
	if got := o.summary.PassedOver; got < pings {
		t.Errorf("%d traces were passed over, want at least the %d of the requests", got, pings)
	}
}
