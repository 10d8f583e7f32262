//go:build vm

package scenario

import (
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// programRun is what a run of tc and XDP programs left.
type programRun struct {
	*outcome
	journeys                          []*journey
	tc, late, native, second, generic *ebpf.Program
}

// TestTracePrograms expects what tc and XDP programs decide, and that a packet keeps
// its trace through them: through a redirect, and from the XDP program to the skb.
func TestTracePrograms(t *testing.T) {
	r := tracePrograms(t)
	checkSums(t, r.outcome, "file")
	checkNothingLost(t, r.outcome)
	t.Run("tc drop", func(t *testing.T) { checkTCDrop(t, r) })
	t.Run("tc redirect", func(t *testing.T) { checkTCRedirect(t, r) })
	t.Run("tc program loaded later", func(t *testing.T) { checkTCLate(t, r) })
	t.Run("XDP drop", func(t *testing.T) { checkXDPDrop(t, r) })
	t.Run("XDP pass", func(t *testing.T) { checkXDPPass(t, r) })
	t.Run("XDP redirect", func(t *testing.T) { checkXDPRedirect(t, r) })
	t.Run("XDP send", func(t *testing.T) { checkXDPSend(t, r) })
	t.Run("generic XDP", func(t *testing.T) { checkGenericXDP(t, r) })
	t.Run("replay", func(t *testing.T) { checkReplayedBytes(t, r.outcome) })
}

func tracePrograms(t *testing.T) *programRun {
	t.Helper()
	setUpPrograms(t)
	r := &programRun{}
	r.tc = loadProgram(t, ebpf.SchedCLS, "tc_port", tcOK,
		verdict{port: portTCDrop, returns: tcShot},
		verdict{port: portTCRedirect, redirect: interfaceIn(t, "xtright", "vtc")})
	attachTC(t, "xtright", "vtb", "ingress", r.tc)
	r.native = loadProgram(t, ebpf.XDP, "xdp_port", xdpPass,
		verdict{port: portXDPDrop, returns: xdpDrop},
		verdict{port: portXDPSend, returns: xdpSend},
		verdict{port: portXDPRedirect, redirect: interfaceIn(t, "xtright", "vxc")})
	attachXDP(t, "xtright", "vxb", r.native, link.XDPDriverMode)
	r.second = loadProgram(t, ebpf.XDP, "xdp_second", xdpPass)
	attachXDP(t, "xtfar", "vxd", r.second, link.XDPDriverMode)
	r.generic = loadProgram(t, ebpf.XDP, "xdp_generic", xdpPass, verdict{port: portSkbModeDrop, returns: xdpDrop})
	attachXDP(t, "xtleft", "vta", r.generic, link.XDPGenericMode)

	withoutBTF(t)

	tr := start(t, "--trace-tc", "--trace-xdp", "--record", "DIR/recording", "udp dst portrange 8100-8199")
	tr.waitFor(t, "tracing 4 tc and xdp programs, and those that are loaded from now on; 1 cannot be traced")
	tr.waitFor(t, "loaded without BTF")
	datagram(t, "xtleft", "10.30.0.2", portTCDrop)
	datagram(t, "xtleft", "10.30.0.2", portTCRedirect)
	for _, port := range []int{portXDPDrop, portXDPPass, portXDPRedirect, portXDPSend} {
		datagram(t, "xtleft", "10.31.0.2", port)
	}
	datagram(t, "xtright", "10.30.0.1", portSkbModeDrop)
	datagram(t, "xtright", "10.30.0.1", portSkbModePass)
	r.late = loadProgram(t, ebpf.SchedCLS, "tc_late", tcOK)
	attachTC(t, "xtleft", "vta", "egress", r.late)
	tr.waitFor(t, "name=tc_late")
	datagram(t, "xtleft", "10.30.0.2", portTCDrop)
	r.outcome = tr.stop(t)
	r.journeys = readJourneys(t, r.output())
	return r
}

// runOf expects one run of a program in the journey, with that action.
func runOf(t *testing.T, j *journey, program *ebpf.Program, name, key, action string) *span {
	t.Helper()
	runs := j.calls(name)
	if len(runs) != 1 {
		t.Fatalf("%s has %d runs of %s, want 1: %v", j, len(runs), name, j.functions())
	}
	s := runs[0]
	if s.text(key) != action || s.number("otel_kprobe.bpf.program.id") != programID(t, program) ||
		s.text("otel_kprobe.stage") != "xdp/tc" || name != strings.SplitAfter(name, ":")[0]+s.text("otel_kprobe.bpf.program.name") {
		t.Errorf("%s: %s says %v, want action %s of program %d", j, name, s.attrs, action, programID(t, program))
	}
	return s
}

func tcRun(t *testing.T, j *journey, program *ebpf.Program, name, action string) *span {
	t.Helper()
	return runOf(t, j, program, "tc:"+name, "otel_kprobe.tc.action", action)
}

func xdpRun(t *testing.T, j *journey, program *ebpf.Program, name, action string) *span {
	t.Helper()
	return runOf(t, j, program, "xdp:"+name, "otel_kprobe.xdp.action", action)
}

// withRun selects the journeys to a port in which a program ran.
func withRun(t *testing.T, r *programRun, number int64, name string, want int) []*journey {
	t.Helper()
	found := where(port(r.journeys, number), func(j *journey) bool { return len(j.calls(name)) > 0 })
	if len(found) != want {
		t.Fatalf("%d journeys to port %d with %s, want %d", len(found), number, name, want)
	}
	return found
}

// tcDropReasons are the kernel's names of a drop by a tc program; where it has none,
// the program's verdict.
var tcDropReasons = map[string]string{
	"5.10": "TC_ACT_SHOT", "6.1": "TC_INGRESS", "6.12": "TC_INGRESS", "7.3": "TC_INGRESS",
}

func checkTCDrop(t *testing.T, r *programRun) {
	for _, j := range withRun(t, r, portTCDrop, "tc:tc_port", 2) {
		tcRun(t, j, r.tc, "tc_port", "TC_ACT_SHOT")
		if want := tcDropReasons[series(t)]; !j.root.failed || j.root.text("error.type") != want || j.root.text("otel_kprobe.end") != "dropped" {
			t.Errorf("%s: status Error %v, error.type %q, end %q; want a drop for %s",
				j, j.root.failed, j.root.text("error.type"), j.root.text("otel_kprobe.end"), want)
		}
		if first := missingInOrder(j.functions(), []string{"veth_xmit", "__netif_receive_skb_core", "tc:tc_port"}); first != "" {
			t.Errorf("%s lacks %s: %v", j, first, j.functions())
		}
	}
}

func checkTCRedirect(t *testing.T, r *programRun) {
	j := withRun(t, r, portTCRedirect, "tc:tc_port", 1)[0]
	tcRun(t, j, r.tc, "tc_port", "TC_ACT_REDIRECT")
	if first := missingInOrder(j.functions(), []string{"veth_xmit", "tc:tc_port", "veth_xmit"}); first != "" {
		t.Errorf("%s lacks %s: %v", j, first, j.functions())
	}
	if got, want := j.root.list("otel_kprobe.interfaces"), []string{"vta", "vtb", "vtc", "vtd"}; !slices.Equal(got, want) {
		t.Errorf("%s passed %v, want %v", j, got, want)
	}
}

func checkTCLate(t *testing.T, r *programRun) {
	j := withRun(t, r, portTCDrop, "tc:tc_late", 1)[0]
	tcRun(t, j, r.late, "tc_late", "TC_ACT_OK")
	if first := missingInOrder(j.functions(), []string{"__dev_queue_xmit", "tc:tc_late", "veth_xmit", "tc:tc_port"}); first != "" {
		t.Errorf("%s lacks %s: %v", j, first, j.functions())
	}
}

func checkXDPDrop(t *testing.T, r *programRun) {
	j := withRun(t, r, portXDPDrop, "xdp:xdp_port", 1)[0]
	xdpRun(t, j, r.native, "xdp_port", "XDP_DROP")
	checkVerdict(t, j, "XDP_DROP")
	checkFromSender(t, r, j, portXDPDrop)
}

// checkVerdict expects the packet to have died by a program's word.
func checkVerdict(t *testing.T, j *journey, action string) {
	t.Helper()
	if !j.root.failed || j.root.text("otel_kprobe.end") != "dropped" || j.root.text("error.type") != action {
		t.Errorf("%s: status Error %v, error.type %q, end %q, want a drop for %s",
			j, j.root.failed, j.root.text("error.type"), j.root.text("otel_kprobe.end"), action)
	}
}

// checkFromSender expects the one trace of a packet to begin where it was sent,
// although veth gives its XDP program a copy.
func checkFromSender(t *testing.T, r *programRun, j *journey, number int64) {
	t.Helper()
	if found := port(r.journeys, number); len(found) != 1 {
		t.Errorf("%d traces of the datagram to port %d, want 1", len(found), number)
	}
	if first := missingInOrder(j.functions(), []string{"ip_output", "veth_xmit", "xdp:xdp_port"}); first != "" {
		t.Errorf("%s lacks %s: %v", j, first, j.functions())
	}
}

func checkXDPPass(t *testing.T, r *programRun) {
	j := withRun(t, r, portXDPPass, "xdp:xdp_port", 1)[0]
	xdpRun(t, j, r.native, "xdp_port", "XDP_PASS")
	checkFromSender(t, r, j, portXDPPass)
	order := []string{"xdp:xdp_port", "__netif_receive_skb_core", "ip_local_deliver"}
	if first := missingInOrder(j.functions(), order); first != "" {
		t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
	}
}

func checkXDPRedirect(t *testing.T, r *programRun) {
	j := withRun(t, r, portXDPRedirect, "xdp:xdp_port", 1)[0]
	xdpRun(t, j, r.native, "xdp_port", "XDP_REDIRECT")
	xdpRun(t, j, r.second, "xdp_second", "XDP_PASS")
	checkFromSender(t, r, j, portXDPRedirect)
	order := []string{"xdp:xdp_port", "xdp:xdp_second", "__netif_receive_skb_core"}
	if first := missingInOrder(j.functions(), order); first != "" {
		t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
	}
	if got := j.root.list("otel_kprobe.interfaces"); missingInOrder(got, []string{"vxb", "vxd"}) != "" {
		t.Errorf("%s passed %v, want vxb and then vxd", j, got)
	}
}

// checkXDPSend expects a packet that a program sends back, and that nobody takes: an
// end of veth without an XDP program of its own refuses buffers.
func checkXDPSend(t *testing.T, r *programRun) {
	j := withRun(t, r, portXDPSend, "xdp:xdp_port", 1)[0]
	xdpRun(t, j, r.native, "xdp_port", "XDP_TX")
	checkFromSender(t, r, j, portXDPSend)
	if end := j.root.text("otel_kprobe.end"); end != "sent" || j.root.failed {
		t.Errorf("%s: end %q, status Error %v, want it sent", j, end, j.root.failed)
	}
}

// checkGenericXDP expects the program's run in the trace of the skb that it is given.
func checkGenericXDP(t *testing.T, r *programRun) {
	dropped := withRun(t, r, portSkbModeDrop, "xdp:xdp_generic", 1)[0]
	xdpRun(t, dropped, r.generic, "xdp_generic", "XDP_DROP")
	checkVerdict(t, dropped, "XDP_DROP")
	passed := withRun(t, r, portSkbModePass, "xdp:xdp_generic", 1)[0]
	xdpRun(t, passed, r.generic, "xdp_generic", "XDP_PASS")
	for _, j := range []*journey{dropped, passed} {
		if first := missingInOrder(j.functions(), []string{"veth_xmit", "xdp:xdp_generic"}); first != "" {
			t.Errorf("%s lacks %s: %v", j, first, j.functions())
		}
	}
	if first := missingInOrder(passed.functions(), []string{"xdp:xdp_generic", "ip_rcv", "ip_local_deliver"}); first != "" {
		t.Errorf("%s lacks %s: %v", passed, first, passed.functions())
	}
}
