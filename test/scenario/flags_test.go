//go:build vm

package scenario

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// few are functions of the path on every kernel and backend. A run that probes
// only these starts quickly.
const few = "ip_output|ip_rcv|ip_local_deliver|icmp_rcv|veth_xmit|dev_hard_start_xmit"

// TestNoMatch expects nothing at all from a filter that no packet matches.
func TestNoMatch(t *testing.T) {
	tr := start(t, "host 192.0.2.99 and udp")
	ping(t, leftNS, rightIP, pings)
	ping(t, "", loopbackIP, pings)
	exchange(t, leftNS, rightNS, net.JoinHostPort(rightIP, strconv.Itoa(portTCP)), tcpSize)
	o := tr.stop(t)
	checkSums(t, o, "file")
	if s := o.summary; s.Frames != 0 || *s.Submitted != 0 || s.Traces != 0 || s.Spans != 0 {
		t.Errorf("%d frames (%d submitted), %d traces, %d spans, want none", s.Frames, *s.Submitted, s.Traces, s.Spans)
	}
	if text := readText(t, o.output()); text != "" {
		t.Errorf("the file is not empty: %s", text)
	}
}

// traced runs the tracer on few functions while f makes traffic.
func traced(t *testing.T, f func(), args ...string) (*outcome, []*journey) {
	t.Helper()
	tr := start(t, append([]string{"--filter-func", few}, args...)...)
	f()
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)
	return o, readJourneys(t, o.output())
}

// TestFilterFunc expects the spans of the named functions, and each of them.
func TestFilterFunc(t *testing.T) {
	_, all := traced(t, func() { ping(t, leftNS, rightIP, pings) }, "icmp")
	names := strings.Split(few, "|")
	checkEchoes(t, echoes(all, leftIP, rightIP, 8), pings, leftToRight("packet tx icmp", leftIP, rightIP, "ipv4"))
	for _, j := range all {
		want := names
		if j.root.number("otel_kprobe.icmp.type") == 8 && j.root.text("source.address") == leftIP {
			want = []string{"ip_output", "dev_hard_start_xmit", "veth_xmit", "ip_rcv", "ip_local_deliver", "icmp_rcv"}
		}
		for _, name := range j.functions() {
			if !slices.Contains(names, name) {
				t.Errorf("%s has %s, which was not asked for", j, name)
			}
		}
		for _, name := range want {
			if len(j.calls(name)) != 1 {
				t.Errorf("%s has %d calls of %s, want 1: %v", j, len(j.calls(name)), name, j.functions())
			}
		}
	}
}

// TestEntryOnly expects entries without durations.
func TestEntryOnly(t *testing.T) {
	_, all := traced(t, func() { ping(t, leftNS, rightIP, pings) }, "--entry-only", "icmp")
	if len(all) != 2*pings {
		t.Errorf("%d traces, want %d", len(all), 2*pings)
	}
	for _, j := range all {
		if len(j.spans) < len(strings.Split(few, "|")) {
			t.Errorf("%s has only %v", j, j.functions())
		}
		for _, s := range j.spans {
			if s.attrs["otel_kprobe.entry_only"] != true || s.attrs["otel_kprobe.duration_ns"] != nil || s.attrs["otel_kprobe.return"] != nil {
				t.Errorf("%s: %s claims to know its return: %v", j, s.name, s.attrs)
			}
		}
	}
}

// TestFilterNetNS follows what comes to one namespace, however that is named:
// a request from the moment it arrives, a reply from its beginning. The three
// tracers see the same packets.
func TestFilterNetNS(t *testing.T) {
	inode := inodeOf(t, rightNS)
	var tracers []*tracer
	for _, name := range []string{rightNS, "/run/netns/" + rightNS, "inode:" + strconv.FormatInt(inode, 10)} {
		tracers = append(tracers, launch(t, "--filter-func", few, "--filter-netns", name, "icmp"))
	}
	for _, tr := range tracers {
		tr.waitReady(t)
	}
	ping(t, leftNS, rightIP, pings)
	ping(t, "", loopbackIP, 1)
	for _, tr := range tracers {
		o := tr.stop(t)
		checkSums(t, o, "file")
		checkNothingLost(t, o)
		checkArrivals(t, readJourneys(t, o.output()), inode)
	}
}

// checkArrivals expects the requests as received and the replies as sent.
func checkArrivals(t *testing.T, all []*journey, inode int64) {
	t.Helper()
	if len(all) != 2*pings {
		t.Errorf("%d traces, want %d: %v", len(all), 2*pings, all)
	}
	arrived := leftToRight("packet rx icmp", leftIP, rightIP, "ipv4")
	arrived.Direction, arrived.Interfaces, arrived.NetNS = "receive", []string{rightIf}, []string{rightNS}
	checkEchoes(t, echoes(all, leftIP, rightIP, 8), pings, arrived)
	sent := mirrored(leftToRight("packet tx icmp", leftIP, rightIP, "ipv4"))
	checkEchoes(t, echoes(all, rightIP, leftIP, 0), pings, sent)
	for _, j := range all {
		if j.root.number("otel_kprobe.netns.inum") != inode {
			t.Errorf("%s begins in namespace %d, want %d", j, j.root.number("otel_kprobe.netns.inum"), inode)
		}
	}
}

// TestFilterIfname follows what passes one interface.
func TestFilterIfname(t *testing.T) {
	_, all := traced(t, func() {
		ping(t, leftNS, rightIP, pings)
		ping(t, "", loopbackIP, 1)
		ping(t, "", hostIP, 1)
	}, "--filter-ifname", leftIf, "icmp")
	if len(all) != 2*pings || len(echoes(all, leftIP, rightIP, 8)) != pings || len(echoes(all, rightIP, leftIP, 0)) != pings {
		t.Errorf("%d traces, want a request and a reply of each of %d pings: %v", len(all), pings, all)
	}
	for _, j := range all {
		if !slices.Contains(j.root.list("otel_kprobe.interfaces"), leftIf) {
			t.Errorf("%s passed %v", j, j.root.list("otel_kprobe.interfaces"))
		}
	}
}

// TestFilterMark follows what carries a mark, and no answers, which carry none.
func TestFilterMark(t *testing.T) {
	address := net.JoinHostPort(rightIP, strconv.Itoa(portUDP6))
	_, all := traced(t, func() {
		datagrams(t, "udp", address, 2, 0x142, true) // matches
		datagrams(t, "udp", address, 2, 0x43, true)  // other bits
		datagrams(t, "udp", address, 2, 0, true)     // none
	}, "--filter-mark", "0x42/0xff", "udp")
	if len(all) != 2 {
		t.Errorf("%d traces, want 2: %v", len(all), all)
	}
	for _, j := range all {
		if j.root.text("source.address") != leftIP {
			t.Errorf("%s does not come from the marked socket", j)
		}
		marked := slices.ContainsFunc(j.spans, func(s *span) bool { return s.number("otel_kprobe.skb.mark") == 0x142 })
		if !marked {
			t.Errorf("%s: no function shows mark 0x142", j)
		}
	}
}

// TestLimitTraces ends by itself after so many traces.
func TestLimitTraces(t *testing.T) {
	tr := start(t, "--filter-func", few, "--limit-traces", "2", "icmp")
	ping(t, leftNS, rightIP, pings)
	o := tr.end(t)
	if o.exit != 0 || o.summary.Traces != 2 || len(readJourneys(t, o.output())) != 2 {
		t.Errorf("exit status %d, %d traces, %d in the file, want 0 and 2\n%s",
			o.exit, o.summary.Traces, len(readJourneys(t, o.output())), o.stderr)
	}
}

// TestDuration ends by itself after so long, and a console shows each trace. The end may
// cut one ping and its answer short.
func TestDuration(t *testing.T) {
	const duration = 5 * time.Second
	tr := start(t, "--filter-func", few, "--duration", duration.String(), "--exporter", "console", "--format", "lines", "icmp")
	begin := time.Now()
	for ended := false; !ended; {
		ping(t, leftNS, rightIP, 1)
		select {
		case <-tr.exited:
			ended = true
		default:
		}
	}
	o := tr.end(t)
	took := time.Since(begin)
	if o.exit != 0 || took > duration+20*time.Second {
		t.Errorf("exit status %d after %v, want 0 after %v\n%s", o.exit, took, duration, o.stderr)
	}
	traces, shown := int(o.summary.Traces), strings.Count(o.stdout, "icmp_rcv")
	if traces == 0 || shown > traces || shown < traces-2 {
		t.Errorf("%d traces, of which %d with icmp_rcv are on the terminal:\n%s", traces, shown, o.stdout)
	}
}

// TestInterrupt expects SIGINT to bring out what was traced, at once. Every
// other run ends by SIGTERM.
func TestInterrupt(t *testing.T) {
	tr := start(t, "--filter-func", few, "icmp")
	ping(t, leftNS, rightIP, pings)
	o := tr.signal(t, syscall.SIGINT)
	if o.exit != 0 {
		t.Errorf("exit status %d, want 0\n%s", o.exit, o.stderr)
	}
	if all := readJourneys(t, o.output()); len(all) != 2*pings {
		t.Errorf("%d traces in the file, want %d", len(all), 2*pings)
	}
	checkClean(t)
}

// TestKill expects nothing in the kernel after SIGKILL, with every function
// probed and while packets pass.
func TestKill(t *testing.T) {
	tr := start(t, everything)
	ping(t, leftNS, rightIP, 1)
	if o := tr.signal(t, syscall.SIGKILL); o.exit != -1 {
		t.Errorf("exit status %d after SIGKILL", o.exit)
	}
	checkClean(t)
	ping(t, leftNS, rightIP, 1)
}

// TestKillWhileAttaching is TestKill before the program is ready.
func TestKillWhileAttaching(t *testing.T) {
	tr := launch(t, everything)
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(time.Millisecond) {
		if len(attachedFunctions(t)) > 0 || time.Now().After(deadline) {
			break
		}
	}
	tr.signal(t, syscall.SIGKILL)
	if _, err := os.Stat(tr.dir + "/ready"); err == nil {
		t.Log("it was ready already")
	}
	checkClean(t)
}
