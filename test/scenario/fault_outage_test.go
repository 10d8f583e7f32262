//go:build vm

package scenario

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	portOutage   = 7330
	portDiskFull = 7331
)

// outageFunctions are on the way of a datagram over loopback: many, so that the queue
// is soon full.
const outageFunctions = `ip_.*|__ip_.*|udp_.*|__udp_.*|dev_.*|__dev_queue_xmit|loopback_xmit|netif_.*|__netif_.*|enqueue_to_backlog|validate_xmit_skb`

// outageGrowthKB is by how much the tracer may grow while its receiver is away: the
// queue has 32 MiB, and Go's collector lets as much garbage gather again.
const outageGrowthKB = 96 << 10

// TestFaultCollector takes the receiver away at load, until the queue is full and for
// OTEL_KPROBE_OUTAGE at least, and brings it back. Spans arrive again, and those that
// did not are counted.
func TestFaultCollector(t *testing.T) {
	outage := envDuration(t, "OTEL_KPROBE_OUTAGE", 15*time.Second)
	first := startReceiver(t)
	tr := start(t, "--filter-func", outageFunctions, first.endpoint(), "--exporter", "otlp", "udp dst port "+strconv.Itoa(portOutage))
	stop := make(chan struct{})
	enough := sync.OnceFunc(func() { close(stop) })
	defer enough()
	sent := pour(t, portOutage, stop)
	<-first.first
	first.server.GracefulStop() // what it took it has answered: both sides know
	begin, before := time.Now(), tr.residentKB(t)
	most := before
	for full := false; time.Since(begin) < outage || !full; time.Sleep(time.Second) {
		most = max(most, tr.residentKB(t))
		full = full || strings.Contains(tr.stderr.String(), "spans are dropped")
		if time.Since(begin) > outage+2*time.Minute {
			t.Fatalf("the queue is not full after %v\n%s", time.Since(begin), tr.stderr.String())
		}
	}
	away := time.Since(begin)
	second := startReceiverAt(t, "127.0.0.1:"+strconv.FormatInt(first.port, 10))
	select {
	case <-second.first:
	case <-time.After(time.Minute):
		t.Fatalf("no spans a minute after the receiver was back\n%s", tr.stderr.String())
	}
	back := time.Since(begin) - away
	enough()
	count := <-sent
	most = max(most, tr.residentKB(t))
	time.Sleep(5 * settle) // the last ones still lie in their socket
	o := tr.signal(t, syscall.SIGTERM)
	t.Logf("%d datagrams; away for %v, spans %v later; resident %d KiB before, at most %d KiB; %+v",
		count, away, back, before, most, o.summary.Exporters)
	if most-before > outageGrowthKB {
		t.Errorf("the tracer has grown by %d KiB", most-before)
	}
	checkSums(t, o, "otlp")
	e := o.summary.Exporters[0]
	arrived := uint64(len(first.received()) + len(second.received()))
	if e.Dropped == 0 || e.Failed == 0 {
		t.Errorf("%d spans arrived; %+v", arrived, e)
	}
	checkArrived(t, o, arrived)
	checkLoss(t, o, e.Spans-e.Exported)
}

// pour sends datagrams over loopback, some at once and then a rest, until stop is
// closed, and gives their number.
func pour(t *testing.T, port int, stop <-chan struct{}) <-chan int {
	t.Helper()
	server, client := listenLoop(t, port), dialLoop(t, port)
	go func() {
		buffer := make([]byte, 64)
		for {
			if _, _, err := server.ReadFrom(buffer); err != nil {
				return // closed
			}
		}
	}()
	sent := make(chan int, 1)
	go func() {
		ticks := time.NewTicker(20 * time.Millisecond)
		defer ticks.Stop()
		for n := 0; ; {
			select {
			case <-stop:
				sent <- n
				return
			case <-ticks.C:
			}
			for range 20 {
				if _, err := client.Write([]byte("poured")); err != nil {
					t.Error(err)
				}
				n++
			}
		}
	}()
	return sent
}

// envDuration is what a variable of the environment asks for, such as 10m.
func envDuration(t *testing.T, name string, without time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		t.Fatalf("%s is %q: give a duration of a second or more, such as 10m", name, text)
	}
	return d
}

// TestFaultDiskFull lets the file of spans fill its disk, and makes room again. What
// did not fit is counted, the file has whole lines only, and the receiver misses
// nothing.
func TestFaultDiskFull(t *testing.T) {
	dir := t.TempDir()
	must(t, "mount", "-t", "tmpfs", "-o", "size=1m", "none", dir)
	t.Cleanup(func() { must(t, "umount", dir) })
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "spans.jsonl")
	if err := os.WriteFile(filler, make([]byte, 700<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startReceiver(t)
	tr := start(t, "--filter-func", faultFunctions, r.endpoint(), "--exporter", "otlp,file", "--output", path, "udp dst port "+strconv.Itoa(portDiskFull))
	const said = "spans cannot be written to the file; check the space on its disk"
	server, client := listenLoop(t, portDiskFull), dialLoop(t, portDiskFull)
	send := func(count int) {
		t.Helper()
		for range count {
			if _, err := client.Write([]byte("full")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := server.ReadFrom(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for begin := time.Now(); !strings.Contains(tr.stderr.String(), said); time.Sleep(100 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("the disk is not full\n%s", tr.stderr.String())
		}
		send(10)
	}
	full, _ := countSpans(t, path)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	send(20)
	time.Sleep(settle)
	o := tr.signal(t, syscall.SIGTERM)
	checkSums(t, o, "file")
	checkSums(t, o, "otlp")
	checkFullDisk(t, o, r, path, full)
}

// checkFullDisk expects the file to have gone on after it had full spans, and both
// exporters to tell what became of theirs.
func checkFullDisk(t *testing.T, o *outcome, r *receiver, path string, full uint64) {
	t.Helper()
	eachTrace(t, path, func(j *journey, _ ptrace.SpanSlice) { // a line that is torn is an error
		for _, problem := range j.problems() {
			t.Errorf("%s: %s", j, problem)
		}
	})
	written, _ := countSpans(t, path)
	t.Logf("the file had %d spans when it was full, and %d in the end; %+v", full, written, o.summary.Exporters)
	if full == 0 || written <= full {
		t.Errorf("the file had %d spans when it was full, and %d in the end", full, written)
	}
	for _, e := range o.summary.Exporters {
		switch e.Name {
		case "file":
			if e.Exported != written || e.Failed != e.Spans-written || e.Failed == 0 {
				t.Errorf("the file has %d spans; %+v", written, e)
			}
			checkLoss(t, o, e.Failed)
		case "otlp":
			if got := uint64(len(r.received())); e.Exported != e.Spans || got != e.Spans {
				t.Errorf("the receiver has %d spans; %+v", got, e)
			}
		}
	}
	if !strings.Contains(o.stderr, "no space left on device") {
		t.Errorf("the reason is not said:\n%s", o.stderr)
	}
}
