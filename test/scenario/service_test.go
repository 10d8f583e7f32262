//go:build vm

package scenario

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	portSteady = 7300 // a datagram every few milliseconds, also while the filter changes
	portHeld   = 7301 // a datagram each second that lies in its socket for heldFor
	portHealth = 7302
	// heldFor is longer than the time in which both sets know of the change.
	heldFor = 3
)

// serviceSummary is the file of --summary-file of run.
type serviceSummary struct {
	Packets       summary         `json:"packets"`
	Block         json.RawMessage `json:"block"`
	Exporters     json.RawMessage `json:"exporters"`
	Reloads       uint64          `json:"reloads"`
	ReloadsFailed uint64          `json:"reloads_failed"`
}

// serviceFile is a configuration with a filter of packets and rules of block.
func serviceFile(filter, only string, dir, device string) string {
	return `packets:
  filter: ` + filter + `
block:
  device: [` + device + `]
  only: [` + only + `]
export:
  exporters: [file]
  file: ` + filepath.Join(dir, "spans.jsonl") + `
health:
  listen: ":` + strconv.Itoa(portHealth) + `"
`
}

// service is a running `otel-kprobe run`.
type service struct {
	*tracer
	config string
}

// reload changes the configuration, asks for it to be read, and waits until the log
// says what became of it.
func (s *service) reload(t *testing.T, content, says string) {
	t.Helper()
	begin, before := time.Now(), strings.Count(s.stderr.String(), says)
	if err := os.WriteFile(s.config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(readyWithin); strings.Count(s.stderr.String(), says) == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q after %v\n%s", says, readyWithin, s.stderr.String())
		}
	}
	t.Logf("%q after %v", says, time.Since(begin).Round(time.Millisecond))
}

// get asks the listener.
func get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://127.0.0.1:" + strconv.Itoa(portHealth) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// steady sends a datagram over loopback now and then until stop is closed, and gives
// their number.
func steady(t *testing.T, stop <-chan struct{}) <-chan int {
	t.Helper()
	return bursts(t, 1, 50*time.Millisecond, stop)
}

// bursts sends so many datagrams at a time until stop is closed, to a socket that is
// read, and gives their number.
func bursts(t *testing.T, each int, every time.Duration, stop <-chan struct{}) <-chan int {
	t.Helper()
	server, client := listenLoop(t, portSteady), dialLoop(t, portSteady)
	go drainPackets(server)
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ticks := time.NewTicker(every); ; n += each {
			select {
			case <-stop:
				ticks.Stop()
				sent <- n
				return
			case <-ticks.C:
			}
			for range each {
				if _, err := client.Write([]byte("steady")); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	return sent
}

// drainPackets reads until the socket is closed.
func drainPackets(from net.PacketConn) {
	buffer := make([]byte, 64)
	for {
		if _, _, err := from.ReadFrom(buffer); err != nil {
			return
		}
	}
}

// holding sends a datagram each second until stop is closed, reads each heldFor
// seconds later, and gives their number.
func holding(t *testing.T, stop <-chan struct{}) <-chan int {
	t.Helper()
	server, client := listenLoop(t, portHeld), dialLoop(t, portHeld)
	receive := func() {
		if _, _, err := server.ReadFrom(make([]byte, 64)); err != nil {
			t.Error(err)
		}
	}
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ticks := time.NewTicker(time.Second); ; n++ {
			select {
			case <-stop:
				ticks.Stop()
				for range min(n, heldFor) {
					receive()
				}
				sent <- n
				return
			case <-ticks.C:
			}
			if _, err := client.Write([]byte("held")); err != nil {
				t.Error(err)
			}
			if n >= heldFor {
				receive()
			}
		}
	}()
	return sent
}

func listenLoop(t *testing.T, number int) net.PacketConn {
	t.Helper()
	server, err := net.ListenPacket("udp", net.JoinHostPort(loopbackIP, strconv.Itoa(number)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() }) // it may be closed already
	return server
}

func dialLoop(t *testing.T, number int) net.Conn {
	t.Helper()
	client, err := net.Dial("udp", net.JoinHostPort(loopbackIP, strconv.Itoa(number)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // nothing was promised
	return client
}

// TestService traces packets and requests in one process, and changes the filter
// while datagrams travel and others lie in a socket: each must be shown once and
// whole, and the sums must stay exact.
func TestService(t *testing.T) {
	disk := scratch(t)
	dir := t.TempDir()
	s := &service{config: filepath.Join(dir, "otel-kprobe.yaml")}
	udp := "udp dst port " + strconv.Itoa(portSteady) + " or udp dst port " + strconv.Itoa(portHeld)
	first := serviceFile(udp, "", dir, string(disk))
	if err := os.WriteFile(s.config, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	s.tracer = launchCommand(t, "run", "--config", s.config)
	s.waitReady(t)

	ping(t, "", loopbackIP, pings) // not wanted by the first filter
	writeDirect(t, disk.node(), 0, 4096)
	stop := make(chan struct{})
	sent, heldSent := steady(t, stop), holding(t, stop)
	time.Sleep(2 * heldFor * time.Second)
	s.reload(t, serviceFile(udp+" or icmp", "", dir, string(disk)), "configuration is reloaded")
	time.Sleep(2 * heldFor * time.Second) // both sets follow packets meanwhile
	ping(t, "", loopbackIP, pings)
	close(stop)
	steadySent, held := <-sent, <-heldSent

	s.reload(t, strings.Replace(first, "packets:", "packers:", 1), "not reloaded")
	s.reload(t, strings.Replace(first, "health:", "metrics: {enabled: false}\nhealth:", 1), "metrics.enabled cannot change")
	s.reload(t, serviceFile(udp+" or icmp", "slow=1h", dir, string(disk)), "block.only")
	time.Sleep(settle) // the order is taken at the next look
	writeDirect(t, disk.node(), 8, 4096)
	checkListener(t)
	time.Sleep(settle)
	o := s.stop(t)

	leftOut := checkServiceSums(t, o)
	checkServiceFile(t, filepath.Join(dir, "spans.jsonl"), steadySent, held, leftOut)
	t.Run("nothing left behind", checkClean)
}

// checkListener expects health, and the counters that matter.
func checkListener(t *testing.T) {
	t.Helper()
	time.Sleep(3 * time.Second) // counters are read every two
	if status, body := get(t, "/healthz"); status != http.StatusOK || !strings.Contains(body, `"packets":"tracing"`) || !strings.Contains(body, `"block":"tracing"`) {
		t.Errorf("/healthz: %d %s", status, body)
	}
	status, body := get(t, "/metrics")
	for _, want := range []string{
		`otel_kprobe_config_reloads_total{otel_kprobe_outcome="applied"`, `otel_kprobe_config_reloads_total{otel_kprobe_outcome="refused"`,
		"otel_sdk_exporter_span_exported_total{", "otel_kprobe_kernel_lost_total{", "otel_kprobe_tracker_lost_total{",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics (%d) lacks %s:\n%s", status, want, body)
		}
	}
}

// checkServiceFile expects each datagram once and whole, the pings of the second
// filter alone, and one of the two writes. When the kernel left probes out, one datagram
// may be missing: its first functions went by the old set of programs, which then took it
// for the new one's, as the new one, which saw them, did for the old one's.
func checkServiceFile(t *testing.T, path string, steadySent, heldSent int, leftOut uint64) {
	t.Helper()
	var datagrams, heldOnes, pinged, requests int
	eachTrace(t, path, func(j *journey, _ ptrace.SpanSlice) {
		if j.root.attrs["otel_kprobe.journey"] == nil {
			requests++
			return
		}
		for _, problem := range j.problems() {
			t.Errorf("%s: %s", j, problem)
		}
		if end := j.root.text("otel_kprobe.end"); j.root.attrs["otel_kprobe.incomplete"] != nil || end == "unfinished" {
			t.Errorf("%s is incomplete, or has no end: %q", j, end)
		}
		switch j.root.number("destination.port") {
		case portSteady:
			datagrams++
		case portHeld:
			heldOnes++
		default:
			pinged++
		}
	})
	missing := steadySent - datagrams
	if missing < 0 || missing > 1 || missing == 1 && leftOut == 0 || heldOnes != heldSent {
		t.Errorf("%d of %d datagrams are shown, and %d of %d that were held", datagrams, steadySent, heldOnes, heldSent)
	}
	// Each ping is a request and an answer, and loopback keeps both in one namespace.
	if pinged < 2*pings || pinged > 3*pings {
		t.Errorf("%d traces of pings, want the %d of the second filter", pinged, 2*pings)
	}
	if requests != 1 {
		t.Errorf("%d requests are shown, want the first write alone", requests)
	}
}

// readServiceSummary reads the file of --summary-file: all of it, its packets and the
// exporters as after a run of packets alone, and its requests.
func readServiceSummary(t *testing.T, o *outcome) (s serviceSummary, packets outcome, b blockSummary) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	packets = outcome{exit: o.exit, stderr: o.stderr, summary: s.Packets}
	if err := errors.Join(json.Unmarshal(s.Block, &b), json.Unmarshal(s.Exporters, &packets.summary.Exporters)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s, packets, b
}

// checkServiceSums holds both parts of the summary to their promises, and gives how many
// probes the kernel left out.
func checkServiceSums(t *testing.T, o *outcome) uint64 {
	t.Helper()
	s, packets, b := readServiceSummary(t, o)
	if s.Reloads != 2 || s.ReloadsFailed != 2 {
		t.Errorf("%d reloads, %d failed; want 2 and 2", s.Reloads, s.ReloadsFailed)
	}
	p := &packets.summary
	if p.Submitted == nil || *p.Submitted != p.Frames {
		t.Errorf("the kernel submitted %v frames, %d came", p.Submitted, p.Frames)
	}
	counted := p.Tracker["late_frames"] + p.Tracker["left_frames"] + p.FramesPassedOver + p.FramesHandedOver
	if built := p.Spans - p.Traces - p.Waits - p.Summaries; p.Frames != built+counted {
		t.Errorf("%d frames came, %d became spans and %d were counted", p.Frames, built, counted)
	}
	if p.FramesHandedOver == 0 {
		t.Error("no frame was handed over: the filter did not change while datagrams travelled")
	}
	if b.Requests != 2 || b.Submitted != 2 || b.Traces != 1 {
		t.Errorf("%d requests came of %d, %d traces; want 2, 2 and 1", b.Requests, b.Submitted, b.Traces)
	}
	for _, e := range p.Exporters {
		if e.Spans != p.Spans+b.Spans || e.Exported != e.Spans {
			t.Errorf("%d and %d spans were built; %+v", p.Spans, b.Spans, e)
		}
	}
	checkNothingLost(t, &packets)
	return p.KernelLost["recursion_missed"]
}

// TestServiceNotRequired goes on without a section that cannot be traced, and ends
// with an error when that is required.
func TestServiceNotRequired(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "otel-kprobe.yaml")
	file := func(required string) string {
		return "packets: {filter: icmp, backend: session, required: " + required + "}\n" +
			"export: {exporters: [file], file: " + filepath.Join(dir, "spans.jsonl") + "}\n"
	}
	if backends(t)[0] == "session" || autoBackend[series(t)] == "session" {
		t.Skip("this kernel has every backend")
	}
	if err := os.WriteFile(config, []byte(file("true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := run(t, "run", "--config", config); o.exit != 3 || !strings.Contains(o.stderr, "packets: ") {
		t.Errorf("status %d, want 3\n%s", o.exit, o.stderr)
	}
	if err := os.WriteFile(config, []byte(file("false")), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := launchCommand(t, "run", "--config", config)
	tr.waitReady(t)
	writeDirect(t, scratch(t).node(), 0, 4096)
	if o := tr.stop(t); !strings.Contains(o.stderr, "packets is not traced") || strings.Contains(o.stderr, "\npackets: ") {
		t.Errorf("stderr:\n%s", o.stderr)
	}
	t.Run("nothing left behind", checkClean)
}
