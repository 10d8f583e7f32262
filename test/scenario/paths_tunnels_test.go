//go:build vm

package scenario

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// tunnel is one of those between pta and ptb.
type tunnel struct {
	name     string
	device   string // at both ends
	from, to string
	order    []string // functions of every kernel, in order
}

func tunnels() []tunnel {
	return []tunnel{
		{
			name: "vxlan", device: "px", from: "10.92.1.1", to: "10.92.1.2",
			order: []string{"vxlan_xmit", "iptunnel_xmit", "ip_local_out", "veth_xmit", "udp_rcv", "vxlan_rcv", "icmp_rcv"},
		}, {
			// The filter wants what is around the packet, so that is seen first.
			name: "geneve", device: "pg", from: "10.92.2.1", to: "10.92.2.2",
			order: []string{"ip_local_out", "veth_xmit", "udp_rcv", "geneve_udp_encap_recv", "icmp_rcv"},
		}, {
			name: "ipip", device: "pi", from: "10.92.3.1", to: "10.92.3.2",
			order: []string{"ipip_tunnel_xmit", "iptunnel_xmit", "ip_local_out", "veth_xmit", "ip_tunnel_rcv", "icmp_rcv"},
		}, {
			name: "gre", device: "pe", from: "10.92.4.1", to: "10.92.4.2",
			order: []string{"ipgre_xmit", "iptunnel_xmit", "ip_local_out", "veth_xmit", "ip_tunnel_rcv", "icmp_rcv"},
		}, {
			name: "wireguard", device: "pw", from: "10.92.5.1", to: "10.92.5.2",
			order: []string{"wg_xmit", "iptunnel_xmit", "ip_local_out", "veth_xmit", "udp_rcv", "wg_receive", "icmp_rcv"},
		},
	}
}

// lacksReturns says that the kernel may have left out returns of a packet that is
// sent while the same functions still run on another one: 5.10 keeps only as many
// return probes of one function under way as there are processors
// (register_kretprobe), and an answer over a tunnel is sent within the transmission
// of its request, through most functions twice.
func lacksReturns(t *testing.T) bool {
	t.Helper()
	return series(t) == "5.10"
}

// checkTunnel expects one trace for each direction: of the packet in the tunnel, with
// the way of what was put around it.
func checkTunnel(t *testing.T, p *paths, tn tunnel) {
	want := passage{
		Name: "packet tx icmp", Source: tn.from, Target: tn.to, Network: "ipv4", Direction: "transmit",
		Interfaces: []string{tn.device, "pva", "pvb", tn.device}, NetNS: []string{"pta", "ptb"},
	}
	request := oneEcho(t, p, tn.from, tn.to, 8)
	checkPassage(t, request, want)
	checkAround(t, request, tn, "10.91.0.1", "10.91.0.2")
	checkOrder(t, request, tn.order...)
	checkWhole(t, request)

	reply := oneEcho(t, p, tn.to, tn.from, 0)
	slices.Reverse(want.Interfaces)
	slices.Reverse(want.NetNS)
	want.Source, want.Target = tn.to, tn.from
	checkPassage(t, reply, want)
	checkAround(t, reply, tn, "10.91.0.2", "10.91.0.1")
	if !lacksReturns(t) {
		checkOrder(t, reply, tn.order[:len(tn.order)-1]...)
		checkWhole(t, reply)
	}
}

func checkWhole(t *testing.T, j *journey) {
	t.Helper()
	if j.root.attrs["otel_kprobe.incomplete"] != nil {
		t.Errorf("%s is incomplete", j)
	}
}

// checkAround expects the root to describe the tunnel, and the functions that first
// saw the packet in it and out of it to say so.
func checkAround(t *testing.T, j *journey, tn tunnel, from, to string) {
	t.Helper()
	want := map[string]any{"protocol": tn.name, "source.address": from, "destination.address": to}
	switch tn.name {
	case "vxlan", "geneve", "wireguard":
		want["source.port"], want["destination.port"] = int64(51820), int64(51820)
		if tn.name != "wireguard" { // their source is a hash
			want["source.port"] = j.root.number("otel_kprobe.tunnel.source.port")
			want["destination.port"] = map[string]int64{"vxlan": 4789, "geneve": 6081}[tn.name]
		}
	}
	got := map[string]any{}
	for key, value := range j.root.attrs {
		if name, ok := strings.CutPrefix(key, "otel_kprobe.tunnel."); ok {
			got[name] = value
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s: tunnel (-want +got):\n%s", j, diff)
	}
	var changes []string
	for _, s := range j.spans {
		if change := s.text("otel_kprobe.tunnel.change"); change != "" {
			changes = append(changes, change+" "+s.text("source.address"))
		}
	}
	order := []string{"encapsulated " + from, "decapsulated " + j.root.text("source.address")}
	if tn.name == "geneve" {
		order = order[1:]
	}
	if !slices.Equal(changes, order) {
		t.Errorf("%s: the tunnel's header comes and goes as %v, want %v", j, changes, order)
	}
}

// checkTunnelFilter expects the requests in the tunnels that are not encrypted, and
// no other packet.
func checkTunnelFilter(t *testing.T) {
	_, all := traced(t, func() {
		ping(t, "psa", routedTo, 1)
		for _, tn := range tunnels() {
			ping(t, "pta", tn.to, 1)
		}
	}, "--filter-tunnel", "icmp[icmptype] == icmp-echo")
	var got, want []string
	for _, tn := range tunnels() {
		if tn.name != "wireguard" {
			want = append(want, tn.name+" 8 "+tn.from+" → "+tn.to)
		}
	}
	for _, j := range all {
		r := j.root
		got = append(got, r.text("otel_kprobe.tunnel.protocol")+" "+strconv.FormatInt(r.number("otel_kprobe.icmp.type"), 10)+
			" "+r.text("source.address")+" → "+r.text("destination.address"))
		checkOrder(t, j, "ip_output", "veth_xmit", "ip_rcv", "icmp_rcv")
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("packets in tunnels (-want +got):\n%s", diff)
	}
}
