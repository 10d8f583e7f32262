//go:build vm

package scenario

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/otel-kprobe/otel-kprobe/test/truth"
)

const (
	portHTTP  = 7400
	portProxy = 7401
)

// httpFunctions are enough to see each packet, by whom it was written and who reads it.
const httpFunctions = "ip_output|ip_rcv|skb_copy_datagram_iter"

// headerBytes is how much of a packet is shown: the longest headers of IPv4 and TCP.
const headerBytes = 120

// requestPause lets otel-kprobe, under emulation, write what it has seen: that it drops
// spans when it cannot is not what is proved here.
const requestPause = 400 * time.Millisecond

// httpRun is one run of a server in right and a client in left, both in processes of
// their own.
type httpRun struct {
	server       truth.ServerPlan
	requests     int
	concurrency  int
	maxBytes     int64
	clientHelper bool
	store        bool   // the server writes a file for each request
	hostile      int    // instead of a client: how often all cases are tried
	target       string // "" for the server itself

	leftOut int // probes that the kernel left out while it was traced
}

// inNamespace are the words by which a role is run there.
func inNamespace(name string) []string { return []string{"ip", "netns", "exec", name} }

// play starts the server, then what the test watches it with, then the client; it
// gives what both know.
func (run *httpRun) play(t *testing.T, watch func()) *truth.Truth {
	t.Helper()
	run.server.Listen = net.JoinHostPort(rightIP, strconv.Itoa(portHTTP))
	server, err := truth.StartServer(run.server, inNamespace(rightNS)...)
	if err != nil {
		t.Fatal(err)
	}
	watch()
	clientLog, err := run.call()
	serverLog, stopped := server.Stop()
	if err != nil {
		t.Error(err)
	}
	if stopped != nil {
		t.Fatal(stopped)
	}
	known, err := truth.New(clientLog, serverLog)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// call runs the client to its end.
func (run *httpRun) call() (truth.Log, error) {
	if run.hostile > 0 {
		return truth.CallHostile(truth.HostilePlan{Address: run.server.Listen, Repeat: run.hostile}, inNamespace(leftNS)...)
	}
	target := run.target
	if target == "" {
		target = run.server.Listen
	}
	scheme := "http://"
	if run.server.Certificate != "" {
		scheme = "https://"
	}
	return truth.CallClient(truth.ClientPlan{
		Target: scheme + target, Trust: run.server.Certificate, Helper: run.clientHelper, Requests: run.requests,
		Concurrency: run.concurrency, Seed: 1, MaxBytes: run.maxBytes, Store: run.store,
		PauseNs: int64(requestPause),
	}, inNamespace(leftNS)...)
}

// tracePackets runs it with otel-kprobe watching all its packets, and judges them.
func (run *httpRun) tracePackets(t *testing.T, args ...string) (*truth.Truth, *truth.Verdict, []truth.Packet) {
	t.Helper()
	var tr *tracer
	known := run.play(t, func() {
		// The ring has room for a burst: what is left out is not what is proved here.
		args = append(args, "--ring-size", strconv.Itoa(64<<20), "--filter-func", httpFunctions, "--payload", strconv.Itoa(headerBytes),
			fmt.Sprintf("tcp port %d or tcp port %d", portHTTP, portProxy))
		tr = start(t, args...)
	})
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkRoom(t, o)
	checkLossesExplained(t, o)
	run.leftOut = int(o.summary.KernelLost["recursion_missed"] + o.summary.Tracker["lost_frames"])
	packets := readTCPPackets(t, o.output())
	v := known.Judge(packets)
	t.Logf("recall of data %.2f %%\n%s", 100*v.Recall(), v.Table())
	return known, v, packets
}

// checkRoom expects nothing to be lost for want of room. What the kernel leaves out it
// leaves out: entries, or returns, of which a kretprobe sees only so many under way.
func checkRoom(t *testing.T, o *outcome) {
	t.Helper()
	for name, count := range o.summary.KernelLost {
		switch name {
		case "recursion_missed", "returns_lost", "slots_full":
			t.Logf("kernel_lost %s is %d", name, count)
		default:
			if count != 0 {
				t.Errorf("kernel_lost %s is %d, want 0", name, count)
			}
		}
	}
}

// readTCPPackets reads the packets with all that their roots are linked to.
func readTCPPackets(t *testing.T, path string) (packets []truth.Packet) {
	t.Helper()
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		if j.root.attrs["otel_kprobe.skb.len.first"] == nil && j.root.attrs["otel_kprobe.incomplete"] != nil {
			t.Logf("%s: its first frames were lost, so nobody knows its bytes", j)
			return
		}
		p, err := newTCPPacket(j.root)
		if err != nil {
			t.Errorf("%s: %v", j, err)
			return
		}
		p.Name = j.String()
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			source, ofApp := link.Attributes().Get("otel_kprobe.app.source")
			if ofApp {
				p.Links = append(p.Links, truth.Link{
					Kind: kind.Str(), TraceID: link.TraceID().String(), SpanID: link.SpanID().String(), Source: source.Str(),
				})
			}
		}
		packets = append(packets, p)
	})
	return packets
}

// newTCPPacket reads a root. How many bytes the packet carries is told by its headers,
// which --payload shows, and its length.
func newTCPPacket(root *span) (truth.Packet, error) {
	p := truth.Packet{
		Flags: uint8(root.number("otel_kprobe.tcp.flags")), Seq: uint32(root.number("otel_kprobe.tcp.seq")),
		Ack: uint32(root.number("otel_kprobe.tcp.ack")), Retransmission: root.number("otel_kprobe.tcp.retransmit") > 0,
		Incomplete: root.attrs["otel_kprobe.incomplete"] != nil,
	}
	header, err := hex.DecodeString(root.text("otel_kprobe.payload"))
	if err != nil {
		return p, fmt.Errorf("decode the payload: %w", err)
	}
	if len(header) < 20 || header[0]>>4 != 4 {
		return p, fmt.Errorf("%x is no header of IPv4", header)
	}
	ip := int(header[0]&15) * 4
	if len(header) < ip+20 {
		return p, fmt.Errorf("%x has no header of TCP", header)
	}
	if seq := binary.BigEndian.Uint32(header[ip+4:]); seq != p.Seq {
		return p, fmt.Errorf("the root has sequence number %d, its header %d", p.Seq, seq)
	}
	p.Bytes = root.number("otel_kprobe.skb.len.first") - int64(ip) - int64(header[ip+12]>>4)*4
	for end, at := range map[string]*netip.AddrPort{"source": &p.Source, "destination": &p.Destination} {
		address, err := netip.ParseAddr(root.text(end + ".address"))
		if err != nil {
			return p, fmt.Errorf("read the %s: %w", end, err)
		}
		*at = netip.AddrPortFrom(address, uint16(root.number(end+".port")))
	}
	return p, nil
}

// checkRight expects no packet to be tied to a span that it is not of, and every byte
// to have been seen, but for what the kernel left out: that may be a packet, or the probe
// that would have told that a span has ended or a socket is gone. Only kernels with
// sessions count that, here: of others one packet, and one in a thousand, may be
// concerned.
func checkRight(t *testing.T, run *httpRun, v *truth.Verdict) {
	t.Helper()
	wrong, unseen, leftOut := v.Wrong, v.Unseen, run.leftOut
	if autoBackend[series(t)] != "session" {
		leftOut += 1 + v.Packets()/1000
	}
	if len(unseen) <= leftOut {
		for _, sentence := range unseen {
			t.Logf("left out: %s", sentence)
		}
		unseen = nil
	}
	if len(wrong) <= min(leftOut, 1+v.Packets()/1000) {
		for _, sentence := range wrong {
			t.Logf("tied by what was left out: %s", sentence)
		}
		wrong = nil
	}
	for _, list := range [][]string{wrong, unseen} {
		for i, sentence := range list {
			if i == maxSentences {
				t.Errorf("and %d more", len(list)-i)
				break
			}
			t.Error(sentence)
		}
	}
}

// maxSentences keeps a failure readable.
const maxSentences = 10

// checkRecall expects nearly all packets with data to be tied. The rest may be such as
// nobody can know of: the begin of a request is read before its span has started.
func checkRecall(t *testing.T, v *truth.Verdict) {
	t.Helper()
	if recall := v.Recall(); recall < 0.99 {
		t.Errorf("%.2f %% of the packets with data are tied, want 99 %%", 100*recall)
	}
}
