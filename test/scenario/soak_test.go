//go:build vm

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"golang.org/x/sys/unix"
)

const (
	portSoakUDP = 7350
	portSoakTCP = 7351
	soakFile    = `packets:
  filter: icmp or udp dst port 7350 or tcp port 7351
block:
  device: [%s, %s]
export:
  exporters: [otlp]
  otlp_endpoint: 127.0.0.1:%d
metrics:
  enabled: false
`
)

// soakGrowthKB is by how much the most of the last quarter may exceed that of the
// second one: on a busy machine the exporter's queue of 32 MiB may be full in one and
// empty in the other.
const soakGrowthKB = 40 << 10

// soakEvery is how often a datagram is sent, and the disk read. An emulated machine
// does this and the receiver's work on one processor of the host.
const soakEvery = 100 * time.Millisecond

// soakConnectEvery is after how many samples there is a connection.
const soakConnectEvery = 4

// TestSoak traces packets and requests of a mixed load for OTEL_KPROBE_SOAK, and
// expects memory and maps to be as full in the end as they were after a while, and each
// packet and request to be shown or counted. It is about the program, not the kernel:
// guest.sh runs it on one series.
func TestSoak(t *testing.T) {
	loadBlockModules(t)
	d := envDuration(t, "OTEL_KPROBE_SOAK", 2*time.Minute)
	raw, null := scratch(t), nullDisk(t, 0, nil)
	r := startCounter(t, raw)
	file := filepath.Join(makeFS(t, null), "log")
	config := filepath.Join(t.TempDir(), "otel-kprobe.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, soakFile, raw, null, r.port), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_METRICS_EXPORTER", "none") // the receiver takes spans alone
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")
	tr := launchCommand(t, "run", "--config", config)
	tr.waitReady(t)
	maps := openLiveMaps(t)
	l := startLoad(t, raw)
	samples := soak(t, tr, maps, d, file)
	made := l.end(t)
	time.Sleep(settle)
	left := maps.entries(t)
	maps.close(t)
	o := tr.signal(t, syscall.SIGTERM)
	checkSamples(t, samples, left)
	lost := checkSoakSums(t, o, r.spans.Load())
	checkShown(t, "datagrams", made.datagrams, r.datagrams.Load(), lost)
	checkShown(t, "pings and answers", 2*made.pings, r.pings.Load(), lost)
	checkShown(t, "reads", made.reads, r.reads.Load(), lost)
	t.Run("nothing left behind", checkClean)
}

// sample is what the tracer takes at a moment.
type sample struct {
	residentKB, openFiles, entries int
}

// soak takes a sample each second, and meanwhile makes connections and appends to a
// file.
func soak(t *testing.T, tr *tracer, maps *liveMaps, d time.Duration, file string) (samples []sample) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for end, next := time.Now().Add(d), time.Now(); next.Before(end); next = next.Add(time.Second) {
		time.Sleep(time.Until(next))
		if len(samples)%soakConnectEvery == 0 {
			exchange(t, leftNS, rightNS, net.JoinHostPort(rightIP, strconv.Itoa(portSoakTCP)), tcpSize)
		}
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(int64(len(samples)%1024)*4096, 0); err != nil { // the disk is small
			t.Fatal(err)
		}
		samples = append(samples, sample{tr.residentKB(t), tr.openFiles(t), maps.entries(t)})
	}
	return samples
}

// load is what goes on beside: datagrams, pings and direct reads.
type load struct {
	stop chan struct{}
	done chan made
	n    int // goroutines
}

// made is how much of each was made, and why there is no more.
type made struct {
	datagrams, pings, reads uint64
	err                     error
}

func startLoad(t *testing.T, d disk) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), done: make(chan made, 3), n: 3}
	var server net.PacketConn
	var client net.Conn
	err := inNS(rightNS, func() (err error) {
		server, err = net.ListenPacket("udp", net.JoinHostPort(rightIP, strconv.Itoa(portSoakUDP)))
		return err
	})
	if err == nil {
		err = inNS(leftNS, func() (err error) {
			client, err = net.Dial("udp", server.LocalAddr().String())
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	go l.each(soakEvery, func(m *made) error {
		if _, err := client.Write([]byte("soak")); err != nil {
			return err
		}
		m.datagrams++
		if err := server.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		_, _, err := server.ReadFrom(make([]byte, 64))
		return err
	}, func() error { return errors.Join(client.Close(), server.Close()) })
	go l.each(time.Second, func(m *made) error {
		_, err := command("ip", "netns", "exec", leftNS, "ping", "-q", "-c", "1", "-W", "5", rightIP)
		m.pings++
		return err
	}, func() error { return nil })
	fd, page := openDisk(t, d.node(), unix.O_RDONLY|unix.O_DIRECT), aligned(t, 4096)
	go l.each(soakEvery, func(m *made) error {
		_, err := unix.Pread(fd, page, int64(m.reads%8192)*4096)
		m.reads++
		return err
	}, func() error { return unix.Close(fd) })
	return l
}

// each does something again and again until the load ends or it fails, and closes what
// it used when the load ends.
func (l *load) each(every time.Duration, do func(*made) error, release func() error) {
	var m made
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-l.stop:
			m.err = errors.Join(m.err, release())
			l.done <- m
			return
		case <-ticks.C:
			if m.err == nil {
				m.err = do(&m)
			}
		}
	}
}

// end stops the load and gives what it came to.
func (l *load) end(t *testing.T) made {
	t.Helper()
	close(l.stop)
	var sum made
	for range l.n {
		m := <-l.done
		sum.datagrams, sum.pings, sum.reads = sum.datagrams+m.datagrams, sum.pings+m.pings, sum.reads+m.reads
		sum.err = errors.Join(sum.err, m.err)
	}
	if t.Logf("%+v", sum); sum.err != nil {
		t.Error(sum.err)
	}
	return sum
}

// checkSamples compares the last quarter with the second one, in which caches have
// filled.
func checkSamples(t *testing.T, samples []sample, left int) {
	t.Helper()
	quarter := func(n int) (most sample) {
		for _, s := range samples[(n-1)*len(samples)/4 : n*len(samples)/4] {
			most.residentKB, most.openFiles, most.entries = max(most.residentKB, s.residentKB), max(most.openFiles, s.openFiles), max(most.entries, s.entries)
		}
		return most
	}
	second, last := quarter(2), quarter(4)
	t.Logf("the most of each quarter of %d samples: %+v %+v %+v %+v; %d entries in the end",
		len(samples), quarter(1), second, quarter(3), last, left)
	if last.residentKB > second.residentKB+soakGrowthKB {
		t.Errorf("the tracer had %d KiB in the second quarter and %d in the last one", second.residentKB, last.residentKB)
	}
	if last.openFiles > second.openFiles+2 {
		t.Errorf("the tracer had %d files open in the second quarter and %d in the last one", second.openFiles, last.openFiles)
	}
	if last.entries > 2*second.entries+64 {
		t.Errorf("maps had %d entries in the second quarter and %d in the last one", second.entries, last.entries)
	}
	if left != 0 {
		t.Errorf("maps have %d entries when all is over", left)
	}
}

// checkSoakSums holds both sections to their promises, and gives how much was counted
// as lost.
func checkSoakSums(t *testing.T, o *outcome, arrived uint64) (lost uint64) {
	t.Helper()
	s, packets, b := readServiceSummary(t, o)
	e := packets.summary.Exporters[0]
	if e.Spans != s.Packets.Spans+b.Spans || e.Spans != e.Exported+e.Dropped+e.Rejected+e.Failed+e.Unsent {
		t.Errorf("%d and %d spans were built; %+v", s.Packets.Spans, b.Spans, e)
	}
	if arrived < e.Exported || arrived > e.Exported+e.Failed+e.Unsent { // an answer may come too late
		t.Errorf("%d spans arrived; %+v", arrived, e)
	}
	ofPackets := &packets.summary.Exporters[0] // as after a run of packets alone
	ofPackets.Spans, ofPackets.Exported = e.Spans-b.Spans, e.Exported-b.Spans
	checkSums(t, &packets, "otlp")
	if b.Submitted != b.Requests || b.InFlight != 0 {
		t.Errorf("the kernel submitted %d requests, %d came, %d are in flight", b.Submitted, b.Requests, b.InFlight)
	}
	lost = e.Spans - e.Exported + s.Packets.Tracker["evicted"] + b.Tracker["evicted"]
	for _, counters := range []map[string]uint64{s.Packets.KernelLost, b.KernelLost} {
		for name, n := range counters {
			if name != "recursion_missed" { // a function is missing, and nothing else
				lost += n
			}
		}
	}
	t.Logf("%d spans arrived; lost %d: %v %v %v", arrived, lost, s.Packets.KernelLost, b.KernelLost, s.Packets.Tracker)
	return lost
}

// checkShown expects all that was made to be shown, or counted as lost.
func checkShown(t *testing.T, what string, made, shown, lost uint64) {
	t.Helper()
	if shown > made || made-shown > lost {
		t.Errorf("%d of %d %s are shown, and %d of all were counted as lost", shown, made, what, lost)
	}
}

// counter is an OTLP/gRPC server that counts what it gets, and keeps nothing.
type counter struct {
	ptraceotlp.UnimplementedGRPCServer
	port                           int64
	disk                           disk // whose reads are counted
	spans, datagrams, pings, reads atomic.Uint64
}

func startCounter(t *testing.T, d disk) *counter {
	t.Helper()
	c := &counter{disk: d}
	c.port = serveOTLP(t, "127.0.0.1:0", c).port
	return c
}

// Export implements ptraceotlp.GRPCServer.
func (c *counter) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	for _, resource := range request.Traces().ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, s := range scope.Spans().All() {
				c.spans.Add(1)
				if s.ParentSpanID().IsEmpty() {
					c.root(s)
				}
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

func (c *counter) root(s ptrace.Span) {
	root := &span{attrs: s.Attributes().AsRaw()}
	switch {
	case root.number("destination.port") == portSoakUDP:
		c.datagrams.Add(1)
	case root.attrs["otel_kprobe.icmp.type"] != nil:
		c.pings.Add(1)
	case root.text(keyOperation) == "read" && root.text(keyDevice) == string(c.disk):
		c.reads.Add(1)
	}
}
