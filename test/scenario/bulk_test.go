//go:build vm

package scenario

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBulk sends TCP as fast as it goes through a filter that matches all of it
// and expects the sums to be exact: whatever does not fit is counted. For how long is
// OTEL_KPROBE_BULK's to say.
func TestBulk(t *testing.T) {
	d := envDuration(t, "OTEL_KPROBE_BULK", 2*time.Second)
	server := exec.Command("ip", "netns", "exec", rightNS, "iperf3", "-s", "-1", "-p", "5201")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill() // an error says that it has ended, as -1 asks
		_ = server.Wait()
	}()
	args := []string{"tcp port 5201"}
	if d > bulkKept {
		args = append(args, "--exporter", "file", "--output", os.DevNull)
	}
	tr := start(t, args...)
	waitListening(t, "5201")
	early := rssAfter(tr, d/4)
	must(t, "ip", "netns", "exec", leftNS, "iperf3", "-c", rightIP, "-p", "5201", "-t", itoa(int(d.Seconds())))
	time.Sleep(settle)
	t.Logf("resident after a quarter of %v: %s; at the end: %s", d, <-early, tr.rss())
	o := tr.signal(t, syscall.SIGTERM)
	s := &o.summary
	t.Logf("%d frames of %d packets; kernel lost %v, tracker %v, exporters %+v", s.Frames, s.Traces, s.KernelLost, s.Tracker, s.Exporters)
	if s.Frames < 1000 || s.Traces < 50 {
		t.Errorf("%d frames and %d traces are too few to show anything", s.Frames, s.Traces)
	}
	checkSums(t, o, "file")
	checkExitOfLoss(t, o)
	// An entry that was left behind is evicted after two minutes of silence, so that
	// the map alone shows none of an earlier one.
	if n := s.KernelLost["evicted_skbs"]; n != 0 {
		t.Errorf("%d skbs were evicted: their end was not seen", n)
	}
	if d <= bulkKept {
		if n, _ := countSpans(t, o.output()); n != s.Exporters[0].Exported {
			t.Errorf("the file has %d spans, the summary says %d", n, s.Exporters[0].Exported)
		}
	}
	checkLossesExplained(t, o)
	checkClean(t)
}

// bulkKept is the longest duration whose spans are kept and counted in their file:
// files are in the guest's memory.
const bulkKept = 5 * time.Second

// rssAfter tells the tracer's resident memory as it is some time from now.
func rssAfter(tr *tracer, wait time.Duration) <-chan string {
	told := make(chan string, 1)
	time.AfterFunc(wait, func() { told <- tr.rss() })
	return told
}

// rss is the tracer's resident memory, now and at most, as proc_pid_status(5) has it.
func (tr *tracer) rss() string {
	status, err := os.ReadFile("/proc/" + itoa(tr.cmd.Process.Pid) + "/status")
	if err != nil {
		return err.Error()
	}
	var now, most string
	for line := range strings.Lines(string(status)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "VmRSS":
			now = strings.TrimSpace(value)
		case "VmHWM":
			most = strings.TrimSpace(value)
		}
	}
	return now + ", at most " + most
}

// checkExitOfLoss holds the exit status to what the exporters counted: a flood on
// a busy machine may be more than a file takes, and then status 4 has to say so.
func checkExitOfLoss(t *testing.T, o *outcome) {
	t.Helper()
	want := 0
	for _, e := range o.summary.Exporters {
		if e.Exported != e.Spans {
			want = 4
		}
	}
	if o.exit != want {
		t.Errorf("exit status %d, want %d with exporters %+v\n%s", o.exit, want, o.summary.Exporters, o.stderr)
	}
}

// waitListening waits until a port of the right namespace is open.
func waitListening(t *testing.T, number string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if out := must(t, "ip", "netns", "exec", rightNS, "ss", "-Htln", "sport = :"+number); out != "" {
			return
		}
	}
	t.Fatalf("nothing listens on port %s", number)
}
