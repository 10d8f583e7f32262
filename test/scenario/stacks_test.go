//go:build vm

package scenario

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// stackMark is on the datagram that is dropped.
const stackMark = 119

// shownFields are what --skb-fields asks for, in its order.
var shownFields = []string{
	"skb->hash", "skb->pkt_type", "skb->dev->ifindex", "skb->dev->name", "skb->protocol",
	"skb->sk->sk_mark", "skb->sk->__sk_common.skc_family",
}

// TestStacks asks for everything that can be shown besides, of a ping and of a
// datagram that an nftables rule drops.
func TestStacks(t *testing.T) {
	refused := net.JoinHostPort(rightIP, strconv.Itoa(portRefused))
	tr := start(t, "--stack", "drops", "--caller", "--skb-fields", strings.Join(shownFields, ","), "--payload", "64",
		"--record", "DIR/recording", "icmp or udp port "+strconv.Itoa(portRefused))
	ping(t, leftNS, rightIP, 1)
	datagrams(t, "udp", refused, 1, stackMark, false)
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)
	all := readJourneys(t, o.output())
	requests, dropped := echoes(all, leftIP, rightIP, 8), port(all, portRefused)
	if len(requests) != 1 || len(dropped) != 1 {
		t.Fatalf("%d traces of a ping and %d of a dropped datagram, want one of each", len(requests), len(dropped))
	}
	t.Run("stack of the drop", func(t *testing.T) { checkDropStack(t, dropped[0]) })
	t.Run("callers", func(t *testing.T) { checkCallers(t, requests[0], dropped[0]) })
	t.Run("fields of the ping", func(t *testing.T) { checkPingFields(t, requests[0]) })
	t.Run("fields of the datagram", func(t *testing.T) { checkDatagramFields(t, dropped[0]) })
	t.Run("payload", func(t *testing.T) { checkPayloads(t, requests[0], dropped[0]) })
	t.Run("replay", func(t *testing.T) { checkSameReplay(t, o) })
	checkClean(t)
}

// dropStacks are the innermost functions of the drop. Newer kernels let nf_tables
// free the packet itself; on the older ones its caller does.
var dropStacks = map[string][]string{
	"5.10": {"kfree_skb", "nf_hook_slow"},
	"6.1":  {"kfree_skb_reason", "nf_hook_slow"},
	"6.12": {"sk_skb_reason_drop", "nft_do_chain [nf_tables]", "nft_do_chain_inet [nf_tables]", "nf_hook_slow"},
	"7.3":  {"sk_skb_reason_drop", "nft_do_chain [nf_tables]", "nft_do_chain_inet [nf_tables]", "nf_hook_slow"},
}

var offset = regexp.MustCompile(`\+0x[0-9a-f]+`)

func checkDropStack(t *testing.T, j *journey) {
	var at *span
	for _, s := range append([]*span{j.root}, j.spans...) {
		if s.text("code.stacktrace") == "" {
			continue
		}
		if at != nil {
			t.Errorf("%s: %s and %s have a stack, want one", j, at.name, s.name)
		}
		at = s
	}
	if at == nil || !at.failed {
		t.Fatalf("%s: the span that dropped it has no stack", j)
	}
	lines := strings.Split(at.text("code.stacktrace"), "\n")
	want := append(slices.Clone(dropStacks[series(t)]), "ip_local_deliver", "__netif_receive_skb_one_core", "process_backlog")
	var got []string
	for _, line := range lines[:min(len(lines), len(want))] {
		got = append(got, offset.ReplaceAllString(line, ""))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s%s", j, diff, at.text("code.stacktrace"))
	}
	if location, _, _ := strings.Cut(lines[1], " "); location != at.text("otel_kprobe.drop.location") {
		t.Errorf("the stack has %s second, the location is %s", location, at.text("otel_kprobe.drop.location"))
	}
	if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "trampoline") }) {
		t.Errorf("the stack holds a trampoline:\n%s", at.text("code.stacktrace"))
	}
}

// callers are who calls a function of both packets, on every kernel.
var callers = map[string]string{
	// ip_rcv: on 5.10 conntrack leaves its hook behind where it was used once.
	"nf_hook_slow": "ip_output ip_local_deliver ip_rcv", "__dev_queue_xmit": "ip_finish_output2 neigh_resolve_output",
	"dev_hard_start_xmit": "__dev_queue_xmit", "veth_xmit": "dev_hard_start_xmit",
	"ip_rcv": "__netif_receive_skb_one_core", "ip_rcv_core": "ip_rcv",
}

// checkCallers expects a caller for each function: the one that is known, and for
// all others one that the kernel has. What is jumped to has its caller's.
func checkCallers(t *testing.T, request, dropped *journey) {
	symbols := kernelSymbols(t)
	place := regexp.MustCompile(`^([A-Za-z_][\w.]*)\+0x[1-9a-f][0-9a-f]*( \[\w+\])?$`)
	for _, j := range []*journey{request, dropped} {
		for _, s := range j.spans {
			parts := place.FindStringSubmatch(s.text("otel_kprobe.caller"))
			switch {
			case len(parts) == 0 || !symbols[parts[1]]:
				t.Errorf("%s: %s was called from %q", j, s.name, s.text("otel_kprobe.caller"))
			case callers[s.name] != "" && !slices.Contains(strings.Fields(callers[s.name]), parts[1]):
				t.Errorf("%s: %s was called from %s, want %s", j, s.name, parts[1], callers[s.name])
			}
		}
	}
	for _, c := range []struct {
		j            *journey
		name, caller string
	}{
		{request, "ip_output", "ip_push_pending_frames"},
		{dropped, "ip_output", "ip_send_skb"},
		{dropped, "ip_send_skb", "udp_send_skb"},
		{request, "icmp_rcv", "ip_protocol_deliver_rcu"},
	} {
		calls := c.j.calls(c.name)
		if len(calls) != 1 || !strings.HasPrefix(calls[0].text("otel_kprobe.caller"), c.caller+"+") {
			t.Errorf("%s: calls of %s by %s: %d", c.j, c.name, c.caller, len(calls))
		}
	}
	// ip_finish_output jumps to the second, that to the third.
	calls := slices.Concat(dropped.calls("ip_finish_output"), dropped.calls("__ip_finish_output"), dropped.calls("ip_finish_output2"))
	for _, s := range calls {
		if s.text("otel_kprobe.caller") != calls[0].text("otel_kprobe.caller") {
			t.Errorf("%s: %s was called from %s, the one that jumped to it from %s", dropped, s.name,
				s.text("otel_kprobe.caller"), calls[0].text("otel_kprobe.caller"))
		}
	}
}

// kernelSymbols are the names in /proc/kallsyms.
func kernelSymbols(t *testing.T) map[string]bool {
	t.Helper()
	symbols := map[string]bool{}
	for line := range strings.Lines(readText(t, "/proc/kallsyms")) {
		const before = len("ffffffff81000000 t ")
		if len(line) > before {
			name, _, _ := strings.Cut(strings.TrimRight(line[before:], "\n"), "\t") // the module follows
			symbols[name] = true
		}
	}
	return symbols
}

// fieldsAt gives the values of the shown fields in the first call of each
// function: what was said there, or last before.
func fieldsAt(t *testing.T, j *journey) map[string]map[string]string {
	t.Helper()
	now, at := map[string]string{}, map[string]map[string]string{}
	for _, s := range j.spans {
		for _, field := range s.list("otel_kprobe.skb.fields") {
			name, value, _ := strings.Cut(field, "=")
			if old, known := now[name]; known && old == value {
				t.Errorf("%s: %s says anew that %s is %s", j, s.name, name, value)
			}
			now[name] = value
		}
		if at[s.name] == nil {
			values := map[string]string{}
			for name, value := range now {
				values[name] = value
			}
			at[s.name] = values
		}
	}
	var first []string
	for _, field := range j.spans[0].list("otel_kprobe.skb.fields") {
		name, _, _ := strings.Cut(field, "=")
		first = append(first, name)
	}
	if diff := gocmp.Diff(shownFields, first); diff != "" {
		t.Errorf("%s: fields of the first frame (-want +got):\n%s", j, diff)
	}
	return at
}

// indexOf is the index of an interface in a namespace.
func indexOf(t *testing.T, ns, name string) (index string) {
	t.Helper()
	err := inNS(ns, func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			index = strconv.Itoa(link.Index)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func checkFields(t *testing.T, j *journey, want map[string]map[string]string) {
	t.Helper()
	at := fieldsAt(t, j)
	for function, values := range want {
		got := map[string]string{}
		for name := range values {
			got[name] = at[function][name]
		}
		if diff := gocmp.Diff(values, got); diff != "" {
			t.Errorf("%s: fields in %s (-want +got):\n%s", j, function, diff)
		}
	}
}

func checkPingFields(t *testing.T, j *journey) {
	checkFields(t, j, map[string]map[string]string{
		"__ip_local_out": {"skb->dev->name": "(null)", "skb->dev->ifindex": "(null)", "skb->sk->__sk_common.skc_family": "2"},
		"veth_xmit": {
			"skb->dev->name": leftIf, "skb->dev->ifindex": indexOf(t, leftNS, leftIf), "skb->protocol": "0x0800",
			"skb->pkt_type": "0", "skb->sk->sk_mark": "0",
		},
		"ip_rcv": {"skb->dev->name": rightIf, "skb->dev->ifindex": indexOf(t, rightNS, rightIf), "skb->protocol": "0x0800"},
		"icmp_rcv": {
			"skb->dev->name": rightIf, "skb->sk->sk_mark": "(null)", "skb->sk->__sk_common.skc_family": "(null)",
			"skb->pkt_type": "0", "skb->hash": "0",
		},
	})
}

func checkDatagramFields(t *testing.T, j *journey) {
	checkFields(t, j, map[string]map[string]string{
		"ip_output":        {"skb->sk->sk_mark": strconv.Itoa(stackMark), "skb->sk->__sk_common.skc_family": "2"},
		"veth_xmit":        {"skb->dev->name": leftIf, "skb->sk->sk_mark": strconv.Itoa(stackMark)},
		"ip_local_deliver": {"skb->dev->name": rightIf, "skb->sk->sk_mark": "(null)"},
	})
	if hash := fieldsAt(t, j)["ip_output"]["skb->hash"]; hash == "" || hash == "0" || hash == "(null)" {
		t.Errorf("%s: skb->hash is %q", j, hash)
	}
}

// checkPayloads compares with what was sent. The length and the checksum of the
// header are filled in after the first function.
func checkPayloads(t *testing.T, request, dropped *journey) {
	packet := payloadOf(t, dropped, 17)
	if text := "datagram 0"; string(packet[28:]) != text || packet[25] != byte(8+len(text)) {
		t.Errorf("%s: payload %x, want UDP with %q", dropped, packet, text)
	}
	if source := int64(packet[20])<<8 | int64(packet[21]); source != dropped.root.number("source.port") {
		t.Errorf("%s: payload has source port %d", dropped, source)
	}
	// ping's own: a time, then bytes that count up.
	packet = payloadOf(t, request, 1)
	count := []byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23}
	if len(packet) != 64 || packet[20] != 8 || !bytes.Equal(packet[44:], count) {
		t.Errorf("%s: payload %x, want 64 bytes of an echo request", request, packet)
	}
	for _, s := range dropped.spans {
		if s.attrs["otel_kprobe.payload"] != nil {
			t.Errorf("%s: %s has a payload", dropped, s.name)
		}
	}
}

func payloadOf(t *testing.T, j *journey, protocol byte) []byte {
	t.Helper()
	packet, err := hex.DecodeString(j.root.text("otel_kprobe.payload"))
	if err != nil || len(packet) < 28 {
		t.Fatalf("%s: payload %q, error %v", j, j.root.text("otel_kprobe.payload"), err)
	}
	from, to := netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
	if packet[0] != 0x45 || packet[9] != protocol || from.String() != leftIP || to.String() != rightIP {
		t.Errorf("%s: payload %x is of no packet of protocol %d from %s to %s", j, packet, protocol, leftIP, rightIP)
	}
	if j.root.attrs["otel_kprobe.payload.sensitive"] != true {
		t.Errorf("%s: payload is not marked as sensitive", j)
	}
	return packet
}

// checkSameReplay expects the recording to give the bytes of the live run.
func checkSameReplay(t *testing.T, o *outcome) {
	live, err := os.ReadFile(o.output())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "replayed")
	if r := run(t, "replay", "--exporter", "file", "--output", path, o.recording()); r.exit != 0 {
		t.Fatalf("replay: exit status %d\n%s", r.exit, r.stderr)
	}
	replayed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(live, replayed) {
		t.Errorf("the replay differs from the live run: %s", firstDifference(live, replayed))
	}
}

// TestStackOfEveryFunction expects a stack on each function that begins with it,
// and then holds those that are around it.
func TestStackOfEveryFunction(t *testing.T) {
	o, all := traced(t, func() { ping(t, leftNS, rightIP, 1) }, "--stack", "all", "icmp")
	checkNothingLost(t, o)
	requests := echoes(all, leftIP, rightIP, 8)
	if len(requests) != 1 {
		t.Fatalf("%d traces of a ping, want one", len(requests))
	}
	j := requests[0]
	parents := map[string]*span{}
	for _, s := range j.spans {
		parents[s.id] = s
	}
	for _, s := range j.spans {
		stack := s.text("code.stacktrace")
		lines := strings.Split(stack, "\n")
		if first, _, _ := strings.Cut(lines[0], "+"); first != s.name {
			t.Errorf("%s: the stack of %s begins with %q", j, s.name, lines[0])
		}
		if strings.Contains(stack, "trampoline") || len(lines) < 3 {
			t.Errorf("%s: the stack of %s is\n%s", j, s.name, stack)
		}
		if s.name == "veth_xmit" && !strings.HasPrefix(lines[1], "dev_hard_start_xmit+") {
			t.Errorf("%s: dev_hard_start_xmit is not around veth_xmit:\n%s", j, stack)
		}
		if p := parents[s.parent]; s.name == "veth_xmit" && (p == nil || p.name != "dev_hard_start_xmit") {
			t.Errorf("%s: veth_xmit is not below dev_hard_start_xmit", j)
		}
	}
	if len(j.calls("veth_xmit")) != 1 || len(j.calls("icmp_rcv")) != 1 {
		t.Errorf("%s lacks functions: %v", j, j.functions())
	}
}
