package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// inPacket is an echo request, inVXLAN what is around it, inWireGuard what is around
// that, each as it lies in the memory of one skb.
func inPacket(f *event.Facts) {
	echoRequest(f)
	f.NetworkOffset, f.NetworkLen = 150, 84
}

func inVXLAN(f *event.Facts) {
	f.Flags, f.Family, f.Protocol = event.FactsTuple|event.FactsPorts, 4, 17
	f.Source, f.Destination = ipv4(192, 0, 2, 1), ipv4(192, 0, 2, 2)
	f.SourcePort, f.DestinationPort = 40000, 4789
	f.NetworkOffset, f.NetworkLen = 100, 134
}

func inWireGuard(f *event.Facts) {
	f.Flags, f.Family, f.Protocol = event.FactsTuple|event.FactsPorts, 6, 17
	f.Source, f.Destination = [16]byte{0xfd, 15: 1}, [16]byte{0xfd, 15: 2}
	f.SourcePort, f.DestinationPort = 51820, 51820
	f.NetworkOffset, f.NetworkLen = 20, 220
}

func withNAT(f *event.Facts) { f.Source = ipv4(203, 0, 113, 7) }

// tunnelCase is a packet whose facts change one after the other.
type tunnelCase struct {
	name    string
	facts   []func(*event.Facts)
	root    map[string]any // addresses and tunnel of the root
	changes []string       // otel_kprobe.tunnel.change of each function
}

func tunnelCases() []tunnelCase {
	own := map[string]any{"source.address": "10.9.0.1", "destination.address": "10.9.0.2"}
	within := func(more map[string]any) map[string]any {
		all := map[string]any{
			"source.address": "10.9.0.1", "destination.address": "10.9.0.2", "otel_kprobe.tunnel.protocol": "vxlan",
			"otel_kprobe.tunnel.source.address": "192.0.2.1", "otel_kprobe.tunnel.source.port": int64(40000),
			"otel_kprobe.tunnel.destination.address": "192.0.2.2", "otel_kprobe.tunnel.destination.port": int64(4789),
		}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	return []tunnelCase{
		{"none", []func(*event.Facts){inPacket}, own, []string{""}},
		{
			"sent and received",
			[]func(*event.Facts){inPacket, inVXLAN, inPacket},
			within(nil),
			[]string{"", "encapsulated", "decapsulated"},
		},
		{"received", []func(*event.Facts){inVXLAN, inPacket}, within(nil), []string{"", "decapsulated"}},
		{
			"passed on",
			[]func(*event.Facts){inVXLAN, func(f *event.Facts) { f.Ifindex++ }},
			map[string]any{
				"source.address": "192.0.2.1", "source.port": int64(40000),
				"destination.address": "192.0.2.2", "destination.port": int64(4789),
			},
			[]string{"", ""},
		},
		{
			"one in the other",
			[]func(*event.Facts){inPacket, inVXLAN, inWireGuard},
			within(map[string]any{"otel_kprobe.tunnel.depth": int64(2)}),
			[]string{"", "encapsulated", "encapsulated"},
		},
		{
			"received, one in the other",
			[]func(*event.Facts){inWireGuard, inVXLAN, inPacket},
			within(map[string]any{"otel_kprobe.tunnel.depth": int64(2)}),
			[]string{"", "decapsulated", "decapsulated"},
		},
		{
			"translated",
			[]func(*event.Facts){inPacket, withNAT, inVXLAN, withNAT},
			within(nil),
			[]string{"", "", "encapsulated", ""},
		},
		{
			"merged and translated",
			[]func(*event.Facts){inVXLAN, func(f *event.Facts) {
				withNAT(f)
				f.NetworkLen += 5000
			}},
			map[string]any{
				"source.address": "192.0.2.1", "source.port": int64(40000),
				"destination.address": "192.0.2.2", "destination.port": int64(4789),
			},
			[]string{"", ""},
		},
		{
			"an old recording", []func(*event.Facts){inPacket, func(f *event.Facts) {
				inVXLAN(f)
				f.NetworkOffset = 0
			}}, own, []string{"", ""},
		},
		{
			"a carrier of nothing known", []func(*event.Facts){inPacket, func(f *event.Facts) {
				inVXLAN(f)
				f.Protocol = 6
			}}, own, []string{"", ""},
		},
	}
}

func TestTunnels(t *testing.T) {
	for _, c := range tunnelCases() {
		t.Run(c.name, func(t *testing.T) {
			k := newFakeKernel()
			j := newTestJourney(k, 20)
			for _, set := range c.facts {
				j.addFacts(set)
				j.in("ip_output", 0, nil)
			}
			trace := testBuilder(k).Build(&j.Journey)
			got := map[string]any{}
			for _, a := range trace.Root().Attrs {
				switch key := a.Key; {
				case key >= KeySourceAddress && key <= KeyDestinationPort, key >= KeyTunnelProtocol && key <= KeyTunnelChange:
					got[key.String()] = valueOf(a)
				}
			}
			if diff := cmp.Diff(c.root, got); diff != "" {
				t.Errorf("root (-want +got):\n%s", diff)
			}
			var changes []string
			for i := range trace.Spans[1:] {
				changes = append(changes, changeOf(&trace.Spans[1+i]))
			}
			if diff := cmp.Diff(c.changes, changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func valueOf(a Attr) any {
	if a.Type == TypeInt {
		return a.Int
	}
	return a.Str
}

func changeOf(s *Span) string {
	for _, a := range s.Attrs {
		if a.Key == KeyTunnelChange {
			return a.Str
		}
	}
	return ""
}

// TestTunnelNames: over UDP a tunnel is named by its port, else by a module.
func TestTunnelNames(t *testing.T) {
	udp := func(port uint16) event.Facts {
		return event.Facts{Protocol: 17, SourcePort: 1000, DestinationPort: port}
	}
	for _, c := range []struct {
		facts  event.Facts
		module string
		want   string
	}{
		{udp(8472), "", "vxlan"},
		{udp(6081), "wireguard", "geneve"},
		{udp(51820), "wireguard", "wireguard"},
		{udp(1701), "l2tp_core", "l2tp"},
		{udp(51820), "veth", "udp"},
		{event.Facts{Protocol: 4}, "", "ipip"},
		{event.Facts{Protocol: 47}, "", "gre"},
		{event.Facts{Protocol: 137}, "", "ip proto 137"},
	} {
		b := &Builder{trace: Trace{Spans: []Span{{}, {Function: Function{Module: c.module}}}}}
		if got := b.tunnelName(&c.facts); got != c.want {
			t.Errorf("tunnel of protocol %d, port %d, module %q is %q, want %q",
				c.facts.Protocol, c.facts.DestinationPort, c.module, got, c.want)
		}
	}
}
