//go:build vm

package scenario

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The network of this file: a router that translates both ends of connections,
// and a server that refuses datagrams in every way that a packet filter has.
//
//	nfclient 10.77.1.1 ── 10.77.1.254 nfrouter 10.77.2.1 ── 10.77.2.2 nfserver
const (
	nfClientNS, nfServerNS = "nfclient", "nfserver"
	nfClientIP, nfServerIP = "10.77.1.1", "10.77.2.2"
	nfVirtual              = "10.77.1.254:8100" // translated to nfTrue
	nfTrue                 = "10.77.2.2:8200"
	nfMasquerade           = "10.77.2.1"
)

const netfilterScript = `
set -e
modprobe -a nf_tables nft_chain_nat nft_reject_inet nft_masq nft_nat nft_compat ip_tables iptable_filter
for ns in nfclient nfrouter nfserver; do ip netns add $ns; ip -n $ns link set lo up; done
ip link add nfc0 netns nfclient type veth peer name nfc1 netns nfrouter
ip link add nfs0 netns nfserver type veth peer name nfs1 netns nfrouter
ip -n nfclient addr add 10.77.1.1/24 dev nfc0
ip -n nfrouter addr add 10.77.1.254/24 dev nfc1
ip -n nfrouter addr add 10.77.2.1/24 dev nfs1
ip -n nfserver addr add 10.77.2.2/24 dev nfs0
for end in nfclient:nfc0 nfrouter:nfc1 nfrouter:nfs1 nfserver:nfs0; do ip -n ${end%:*} link set ${end#*:} up; done
ip -n nfclient route add default via 10.77.1.254
ip -n nfserver route add default via 10.77.2.1
ip netns exec nfrouter sysctl -qw net.ipv4.ip_forward=1
ip netns exec nfrouter nft 'table ip nfnat {
	chain pre { type nat hook prerouting priority -100; ip daddr 10.77.1.254 udp dport 8100 dnat to 10.77.2.2:8200; }
	chain post { type nat hook postrouting priority 100; oifname "nfs1" ip daddr 10.77.2.2 udp dport 8200 masquerade; }
}'
# Neighbours and the route are known before a test looks.
ip netns exec nfclient ping -q -c 1 -W 5 10.77.2.2
ip netns exec nfserver nft 'table inet nfdrop {
	chain sub { udp dport 7701 counter drop; }
	chain in { type filter hook input priority -10; policy accept;
		udp dport 7701 jump sub
		udp dport 7702 reject
		udp dport vmap { 7703 : drop, 7799 : accept }
	}
}
table ip nfpolicy {
	chain in { type filter hook input priority 10; policy drop;
		meta l4proto != udp accept
		udp dport vmap { 7798 : accept }
		udp dport != 7704 accept
	}
}'
ip netns exec nfserver iptables-legacy -A INPUT -p udp --dport 7705 -j DROP
ip netns exec nfserver iptables-nft -A INPUT -p udp --dport 7706 -j DROP
ip netns exec nfserver iptables-nft -A INPUT -p udp --dport 7707 -j REJECT
`

// refusal is what the trace of a refused datagram says of the filter.
type refusal struct {
	Family, Table, Chain, Hook, Rule string
}

func refusalOf(s *span) refusal {
	return refusal{
		Family: s.text("otel_kprobe.netfilter.family"), Table: s.text("otel_kprobe.netfilter.table"),
		Chain: s.text("otel_kprobe.netfilter.chain"), Hook: s.text("otel_kprobe.netfilter.hook"),
		Rule: s.text("otel_kprobe.netfilter.rule"),
	}
}

// TestNetfilter has one tracer watch every way of refusing a packet, and one
// connection whose both ends are translated.
func TestNetfilter(t *testing.T) {
	must(t, "sh", "-c", netfilterScript)
	t.Cleanup(func() {
		for _, ns := range []string{nfClientNS, "nfrouter", nfServerNS} {
			must(t, "ip", "netns", "del", ns)
		}
	})
	handles := must(t, "ip", "netns", "exec", nfServerNS, "nft", "-a", "list", "ruleset")
	p := start(t, "udp or icmp")
	for number := 7701; number <= 7707; number++ {
		sendRefused(t, number)
	}
	clientPort := translatedExchange(t)
	o := p.stop(t)
	checkNothingLost(t, o)
	journeys := readJourneys(t, o.output())
	for _, tt := range []struct {
		name string
		port int
		want refusal
	}{
		{"rule of a chain that was jumped to", 7701, refusal{"inet", "nfdrop", "sub", "input", "handle"}},
		{"reject", 7702, refusal{"inet", "nfdrop", "in", "input", "handle"}},
		{"verdict map", 7703, refusal{"inet", "nfdrop", "in", "input", "handle"}},
		{"policy, after a map without the packet's key", 7704, refusal{"ip", "nfpolicy", "in", "input", "policy"}},
		{"iptables-legacy", 7705, refusal{"ip", "filter", "INPUT", "input", "unknown"}},
		{"iptables-nft", 7706, refusal{"ip", "filter", "INPUT", "input", "handle"}},
		{"target of iptables-nft", 7707, refusal{"ip", "filter", "INPUT", "input", "handle"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Rule == "handle" {
				tt.want.Rule = handleOf(t, handles, tt.port)
			}
			checkFiltered(t, port(journeys, int64(tt.port)), tt.want)
		})
	}
	t.Run("translation", func(t *testing.T) { checkTranslation(t, o, journeys, clientPort) })
	t.Run("nothing left behind", checkClean)
}

// sendRefused sends a datagram of its own socket, so that no answer to an earlier
// one fails it.
func sendRefused(t *testing.T, number int) {
	t.Helper()
	err := inNS(nfClientNS, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(nfServerIP, strconv.Itoa(number)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("refused"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// translatedExchange sends a datagram to nfVirtual and waits for its answer. It
// gives the client's port.
func translatedExchange(t *testing.T) int64 {
	t.Helper()
	var server net.PacketConn
	listen := func() (err error) {
		server, err = net.ListenPacket("udp", nfTrue)
		return err
	}
	if err := inNS(nfServerNS, listen); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 64)
		if n, from, err := server.ReadFrom(buf); err == nil {
			_, _ = server.WriteTo(buf[:n], from) // the client misses what is not sent
		}
	}()
	var client int
	err := inNS(nfClientNS, func() error {
		conn, err := net.Dial("udp", nfVirtual)
		if err != nil {
			return err
		}
		defer conn.Close()
		client = conn.LocalAddr().(*net.UDPAddr).Port
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("translated")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return int64(client)
}

// handleOf finds the handle of the rule that decides about a port, in what
// `nft -a list ruleset` prints; jumps do not decide.
func handleOf(t *testing.T, ruleset string, number int) string {
	t.Helper()
	rule := regexp.MustCompile(`\b` + strconv.Itoa(number) + `\b.*# handle (\d+)$`)
	for line := range strings.Lines(ruleset) {
		line = strings.TrimSpace(line)
		if found := rule.FindStringSubmatch(line); found != nil && !strings.Contains(line, "jump") {
			return found[1]
		}
	}
	t.Fatalf("no rule about port %d in:\n%s", number, ruleset)
	return ""
}

// checkFiltered expects one packet from the client, through the router, into the
// server's input hook, and what dropped it on its root and on the span of the drop.
func checkFiltered(t *testing.T, found []*journey, want refusal) {
	t.Helper()
	found = where(found, func(j *journey) bool { return j.root.name == "packet tx udp" })
	if len(found) != 1 {
		t.Fatalf("%d traces, want 1", len(found))
	}
	j := found[0]
	order := []string{"ip_output", "veth_xmit", "ip_forward", "veth_xmit", "ip_local_deliver", "nf_hook_slow"}
	if first := missingInOrder(j.functions(), order); first != "" {
		t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
	}
	if j.root.text("otel_kprobe.end") != "dropped" || !j.root.failed {
		t.Errorf("%s ended %q, failed %v", j, j.root.text("otel_kprobe.end"), j.root.failed)
	}
	if diff := gocmp.Diff(want, refusalOf(j.root)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", j, diff)
	}
	failed := slices.IndexFunc(j.spans, func(s *span) bool { return s.failed })
	if failed < 0 {
		t.Fatalf("%s: no function has status Error", j)
	}
	if diff := gocmp.Diff(want, refusalOf(j.spans[failed])); diff != "" {
		t.Errorf("%s, %s (-want +got):\n%s", j, j.spans[failed].name, diff)
	}
	hooks := j.calls("nf_hook_slow")
	if got := hooks[len(hooks)-1].text("otel_kprobe.result"); got != "NF_DROP" {
		t.Errorf("%s: the last nf_hook_slow has the result %q, want NF_DROP", j, got)
	}
}

// checkTranslation expects the request and its answer to name the connection as
// the router translated it.
func checkTranslation(t *testing.T, o *outcome, journeys []*journey, clientPort int64) {
	client := strconv.FormatInt(clientPort, 10)
	nat := map[string]string{
		"nat.source":                     nfClientIP + ":" + client + " → " + nfMasquerade + ":" + client,
		"nat.destination":                nfVirtual + " → " + nfTrue,
		"conntrack.original.source":      nfClientIP + ":" + client,
		"conntrack.original.destination": nfVirtual,
		"conntrack.reply.source":         nfTrue,
		"conntrack.reply.destination":    nfMasquerade + ":" + client,
	}
	for _, tt := range []struct {
		source, state, direction string
		status                   []string
	}{
		{nfClientIP, "new", "original", []string{"confirmed", "snat", "dnat"}},
		{nfServerIP, "established", "reply", []string{"seen_reply", "confirmed", "snat", "dnat"}},
	} {
		found := where(journeys, func(j *journey) bool {
			r := j.root
			return r.text("source.address") == tt.source && (r.number("source.port") == clientPort || r.number("destination.port") == clientPort)
		})
		if len(found) != 1 {
			t.Errorf("%d traces from %s, want 1", len(found), tt.source)
			continue
		}
		r := found[0].root
		want := map[string]string{"conntrack.state": tt.state, "conntrack.direction": tt.direction}
		for k, v := range nat {
			want[k] = v
		}
		got := map[string]string{}
		for k := range want {
			got[k] = r.text("otel_kprobe." + k)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", found[0], diff)
		}
		if diff := gocmp.Diff(tt.status, r.list("otel_kprobe.conntrack.status")); diff != "" {
			t.Errorf("%s: status (-want +got):\n%s", found[0], diff)
		}
		order := []string{"veth_xmit", "ip_forward", "veth_xmit", "ip_local_deliver"}
		if first := missingInOrder(found[0].functions(), order); first != "" {
			t.Errorf("%s lacks %s in the order %v: %v", found[0], first, order, found[0].functions())
		}
	}
	checkTranslationEvents(t, o, clientPort)
}

// checkTranslationEvents expects the request's root to tell when the router
// translated first the receiver, then the sender, then confirmed the connection.
func checkTranslationEvents(t *testing.T, o *outcome, clientPort int64) {
	var steps []string
	eachTrace(t, o.output(), func(j *journey, all ptrace.SpanSlice) {
		if j.root.text("source.address") != nfClientIP || j.root.number("source.port") != clientPort {
			return
		}
		for _, e := range eventsOf(all)[j.root.id] {
			s := &span{attrs: e.attrs}
			if e.name == "conntrack" {
				steps = append(steps, strings.Join(s.list("otel_kprobe.conntrack.status"), " "))
			}
		}
	})
	want := []string{"dnat", "confirmed snat dnat"}
	if autoBackend[series(t)] == "session" {
		// Of the curated functions none is entered between translation of the
		// sender and confirmation.
		want = slices.Insert(want, 1, "snat dnat")
	}
	if first := missingInOrder(steps, want); first != "" {
		t.Errorf("conntrack events tell the states %q, which lack %q", steps, first)
	}
}
