//go:build vm

package scenario

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

const (
	// aPage is the smallest ring: a dozen datagrams fill it.
	aPage      = 4096
	burstOf    = 100
	burstEvery = 100 * time.Millisecond
)

// TestGuardLoss lets packets come in bursts that no page holds, and beside them one block
// request now and then, which costs more CPU time than is allowed: each command detaches
// after two windows and says which limit it was, and what was seen by then is there.
func TestGuardLoss(t *testing.T) {
	disk := scratch(t)
	packets := start(t, "--max-loss", "1", "--ring-size", strconv.Itoa(aPage), "--filter-func", guardFunctions,
		"udp dst port "+strconv.Itoa(portSteady))
	requests := startBlock(t, "--max-cpu", "0.001", "--device", string(disk))
	stop := make(chan struct{})
	sent := bursts(t, burstOf, burstEvery, stop)
	for written := false; !written; {
		writeDirect(t, disk.node(), 0, 4096)
		select {
		case <-requests.exited:
			written = true
		case <-time.After(burstEvery):
		}
	}
	lossy, costly := packets.end(t), requests.end(t)
	t.Run("nothing left behind", checkClean) // while packets still come
	close(stop)
	t.Logf("%d datagrams\n%s\n%s", <-sent, lossy.stderr, costly.stderr)

	for o, says := range map[*outcome]string{
		lossy:  `otel-kprobe: [0-9.e+]+% of the events were lost, more than the 1% of --max-loss, .*all probes were detached`,
		costly: `otel-kprobe: tracing took [0-9.e+-]+% of a CPU, more than the 0\.001% of --max-cpu, .*all probes were detached`,
	} {
		if o.exit != exitGuard || !regexp.MustCompile(says).MatchString(o.stderr) {
			t.Errorf("exit status %d with %q, want %d and a sentence like %s", o.exit, o.stderr, exitGuard, says)
		}
	}
	if s := &lossy.summary; s.LossExceeded != 2 || s.KernelLost["left_out"]+s.KernelLost["ring_full_frames"] == 0 ||
		s.Traces == 0 || s.Submitted == nil || *s.Submitted != s.Frames {
		t.Errorf("summary %+v", s)
	}
	if s := readBlockSummary(t, costly); costly.summary.CPUExceeded != 2 || s.Requests == 0 {
		t.Errorf("summary %+v", s)
	}
	checkBlockSums(t, costly)
}
