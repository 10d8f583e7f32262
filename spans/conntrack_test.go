package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

const ctNew, ctConfirmed = event.ConntrackNew, event.ConntrackConfirmed

// masqueraded is a connection from 10.0.0.1 to 10.0.0.254:80 that a router
// translates to one from 192.0.2.1 to 198.51.100.7:8080.
func masqueraded(info event.ConntrackInfo, status event.ConntrackStatus) event.Conntrack {
	return event.Conntrack{
		Info: info, Status: status, Family: 4, Protocol: 6, TCPState: 3, Mark: 5, Zone: 2,
		Original: event.Tuple{Source: ipv4(10, 0, 0, 1), SourcePort: 40000, Destination: ipv4(10, 0, 0, 254), DestinationPort: 80},
		Reply:    event.Tuple{Source: ipv4(198, 51, 100, 7), SourcePort: 8080, Destination: ipv4(192, 0, 2, 1), DestinationPort: 40000},
	}
}

func plainConntrack(protocol uint8) event.Conntrack {
	c := masqueraded(ctNew, 0)
	c.Protocol, c.Mark, c.Zone = protocol, 0, 0
	c.Reply = event.Tuple{
		Source: c.Original.Destination, SourcePort: c.Original.DestinationPort,
		Destination: c.Original.Source, DestinationPort: c.Original.SourcePort,
	}
	return c
}

func TestConntrackOnTheRoot(t *testing.T) {
	router := masqueraded(event.ConntrackEstablishedReply, event.ConntrackSeenReply|event.ConntrackAssured|ctConfirmed|event.ConntrackSNAT|event.ConntrackDNAT)
	icmp := plainConntrack(1)
	icmp.Reply.DestinationPort, icmp.Reply.SourcePort = 77, 0 // identifier, type and code
	nat := map[string]string{
		"conntrack.state": "established", "conntrack.direction": "reply", "conntrack.status": "[seen_reply assured confirmed snat dnat]",
		"conntrack.tcp.state": "ESTABLISHED", "conntrack.mark": "5", "conntrack.zone": "2",
		"conntrack.original.source": "10.0.0.1:40000", "conntrack.original.destination": "10.0.0.254:80",
		"conntrack.reply.source": "198.51.100.7:8080", "conntrack.reply.destination": "192.0.2.1:40000",
		"nat.source":      "10.0.0.1:40000 → 192.0.2.1:40000",
		"nat.destination": "10.0.0.254:80 → 198.51.100.7:8080",
	}
	tests := []struct {
		name string
		in   []event.Conntrack
		want map[string]string
	}{
		{"none", nil, nil},
		{"untracked", []event.Conntrack{{Info: event.ConntrackUntracked}}, map[string]string{"conntrack.state": "untracked"}},
		{"translated", []event.Conntrack{router}, nat},
		{"translated, then through a namespace that tracks it too", []event.Conntrack{router, plainConntrack(6)}, nat},
		{"icmp has no ports", []event.Conntrack{icmp}, map[string]string{
			"conntrack.state": "new", "conntrack.direction": "original",
			"conntrack.original.source": "10.0.0.1", "conntrack.original.destination": "10.0.0.254",
			"conntrack.reply.source": "10.0.0.254", "conntrack.reply.destination": "10.0.0.1",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKernel()
			j := newTestJourney(k, 31)
			j.addFacts(tcpSegment)
			j.in("ip_rcv", 0, nil)
			j.Conntracks = tt.in
			tr := testBuilder(k).Build(&j.Journey)
			if diff := cmp.Diff(tt.want, conntrackOf(tr, tr.Spans[0].Attrs)); diff != "" {
				t.Errorf("root (-want +got):\n%s", diff)
			}
		})
	}
}

// conntrackOf gives the attributes about connections, nil for none.
func conntrackOf(tr *Trace, attrs []Attr) map[string]string {
	var got map[string]string
	for _, a := range attrs {
		if a.Key < KeyConntrackState || a.Key > KeyNATDestination {
			continue
		}
		if got == nil {
			got = map[string]string{}
		}
		value := a.Str
		switch a.Type {
		case TypeInt:
			value = dumpValue(tr, a)
		case TypeList:
			value = "["
			for i, s := range tr.List(a) {
				if i > 0 {
					value += " "
				}
				value += s
			}
			value += "]"
		}
		got[a.Key.String()[len("otel_kprobe."):]] = value
	}
	return got
}

// Each state of a connection that changed is an event; one state alone is not.
func TestConntrackEvents(t *testing.T) {
	k := newFakeKernel()
	j := newTestJourney(k, 32)
	j.addFacts(tcpSegment)
	first, second := plainConntrack(6), masqueraded(ctNew, event.ConntrackSNAT)
	j.in("ip_rcv", 0, func() {
		first.AtMonoNs = j.now
		j.in("nf_conntrack_in", 1, nil)
		second.AtMonoNs = j.now
	})
	j.Conntracks = []event.Conntrack{first, second}
	tr := testBuilder(k).Build(&j.Journey)
	var got []map[string]string
	for _, e := range tr.Spans[0].Events {
		if e.Name != "conntrack" {
			t.Errorf("event %q", e.Name)
		}
		got = append(got, conntrackOf(tr, e.Attrs))
	}
	want := []map[string]string{
		{"conntrack.state": "new", "conntrack.direction": "original"},
		{
			"conntrack.state": "new", "conntrack.direction": "original", "conntrack.status": "[snat]",
			"nat.source":      "10.0.0.1:40000 → 192.0.2.1:40000",
			"nat.destination": "10.0.0.254:80 → 198.51.100.7:8080",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	j.Conntracks = j.Conntracks[:1]
	if tr := testBuilder(k).Build(&j.Journey); len(tr.Spans[0].Events) != 0 {
		t.Error("a connection with one state has events")
	}
}
