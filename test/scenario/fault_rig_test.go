//go:build vm

package scenario

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// faultFunctions are few, so that attaching is quick on every backend, and on the
// way of all that the tests of faults send.
const faultFunctions = few + "|dummy_xmit|udp_send_skb|udp_queue_rcv_skb|__udp_enqueue_schedule_skb|skb_consume_udp"

// residentKB is the tracer's resident memory.
func (tr *tracer) residentKB(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(readText(t, "/proc/"+itoa(tr.cmd.Process.Pid)+"/status")) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("the tracer's status lacks VmRSS")
	return 0
}

// openFiles is the number of the tracer's file descriptors.
func (tr *tracer) openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + itoa(tr.cmd.Process.Pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
