//go:build vm

package scenario

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// busyFor is how long a disk is used before it goes.
const busyFor = 300 * time.Millisecond

// TestBlockRemoval takes disks away while they are read and written, and expects
// every request to have an end, and the disks that stay to be traced on.
func TestBlockRemoval(t *testing.T) {
	loadBlockModules(t)
	// Ten milliseconds a request, by a timer: there is always one under way.
	null := nullDisk(t, 0, map[string]string{"irqmode": "2", "completion_nsec": "10000000"})
	slow, nvme := scsiDisk(t), scratch(t)
	tracers := launchEach(t, [][]string{
		{"--device", string(null), "--device", string(slow), "--device", string(nvme)},
		{"--device", string(slow)},
	})
	tr, alone := tracers[0], tracers[1]
	users := []*exec.Cmd{
		exec.Command("dd", "if="+slow.node(), "of=/dev/null", "bs=4k", "count=2000", "iflag=direct", "status=none"),
		exec.Command("dd", "if=/dev/zero", "of="+null.node(), "bs=4k", "count=10000", "oflag=direct", "status=none"),
	}
	for _, u := range users {
		if err := u.Start(); err != nil {
			t.Fatal(err)
		}
	}
	waitIssued(t, slow)
	time.Sleep(busyFor)
	removeSCSI(t, slow)
	powerOff(t, null)
	for _, u := range users {
		_ = u.Wait() // how dd fails differs from kernel to kernel
	}
	writeDirect(t, nvme.node(), 0, ioSize)
	o := tr.stop(t)
	s := checkRemoval(t, o)
	all := readRequests(t, o.output())
	t.Logf("%d requests, of which failed: %d", s.Requests, len(pick(all, func(r *request) bool { return r.failed })))
	for _, d := range []disk{slow, null} {
		if n := len(on(all, d)); n < 3 {
			t.Errorf("%d requests on %s, want at least 3", n, d)
		}
	}
	only(t, on(all, nvme))
	checkVanished(t, alone.end(t), slow)
	checkClean(t)
}

// checkVanished expects a run whose only disk has gone to end by itself, with one
// sentence and what it had traced.
func checkVanished(t *testing.T, o *outcome, d disk) {
	t.Helper()
	var sentences []string
	for line := range strings.Lines(o.stderr) {
		if strings.HasPrefix(line, "otel-kprobe: follow ") {
			sentences = append(sentences, line)
		}
	}
	if o.exit != 1 || len(sentences) != 1 || !strings.Contains(sentences[0], string(d)+": removed") {
		t.Errorf("exit status %d, want 1 and one sentence about %s\n%s", o.exit, d, o.stderr)
	}
	if n := len(on(readRequests(t, o.output()), d)); n < 3 {
		t.Errorf("%d requests on %s, want at least 3", n, d)
	}
}

// checkRemoval is checkBlockSums, except that what a vanished disk has swallowed
// may be unfinished: then it says so, and is counted.
func checkRemoval(t *testing.T, o *outcome) *blockSummary {
	t.Helper()
	s := readBlockSummary(t, o)
	all := readRequests(t, o.output())
	unfinished := uint64(len(pick(all, func(r *request) bool { return r.text(keyEnd) == "unfinished" })))
	if unfinished != s.Tracker["unfinished"] || unfinished != s.InFlight {
		t.Errorf("%d spans are unfinished; in flight %d, tracker %v", unfinished, s.InFlight, s.Tracker)
	}
	if n := uint64(len(flat(all))); s.Submitted != s.Requests || s.Requests+unfinished != n {
		t.Errorf("the kernel submitted %d requests, %d came and %d were unfinished; %d are in the file",
			s.Submitted, s.Requests, unfinished, n)
	}
	return s
}
