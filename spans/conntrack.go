package spans

import (
	"net/netip"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// maxConntrackEvents bounds the events of one root.
const maxConntrackEvents = 64

// endpoint is an address, with its port when the protocol has ports.
type endpoint struct {
	address [16]byte
	port    uint16
	family  uint8
	hasPort bool
}

// mapping is what address translation makes of one end of a connection.
type mapping struct{ from, to endpoint }

func source(c *event.Conntrack, t *event.Tuple) endpoint {
	return endpointOf(c, t.Source, t.SourcePort)
}

func destination(c *event.Conntrack, t *event.Tuple) endpoint {
	return endpointOf(c, t.Destination, t.DestinationPort)
}

func endpointOf(c *event.Conntrack, address [16]byte, port uint16) endpoint {
	e := endpoint{address: address, family: c.Family}
	switch c.Protocol {
	case protoTCP, 17, 33, 132, 136: // TCP, UDP, DCCP, SCTP, UDP-Lite
		e.port, e.hasPort = port, true
	}
	return e
}

// sourceNAT is how the connection's sender is translated; false when it is not.
// Answers go to what the sender was translated to.
func sourceNAT(c *event.Conntrack) (mapping, bool) {
	m := mapping{source(c, &c.Original), destination(c, &c.Reply)}
	return m, c.Family != 0 && m.from != m.to
}

// destinationNAT is the same for the receiver: answers come from it.
func destinationNAT(c *event.Conntrack) (mapping, bool) {
	m := mapping{destination(c, &c.Original), source(c, &c.Reply)}
	return m, c.Family != 0 && m.from != m.to
}

func translated(c *event.Conntrack) bool {
	_, source := sourceNAT(c)
	_, destination := destinationNAT(c)
	return source || destination
}

// connection is what the root shows: the last state of a translated connection,
// else the last. A packet has one in each network namespace that it passes.
func (b *Builder) connection() *event.Conntrack {
	all := b.trace.Conntracks
	for i := len(all) - 1; i >= 0; i-- {
		if translated(&all[i]) {
			return &all[i]
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &all[len(all)-1]
}

// conntrackAttrs gives the root the packet's connection.
func (b *Builder) conntrackAttrs() {
	c := b.connection()
	if c == nil {
		return
	}
	b.conntrackState(c)
	if c.Family == 0 {
		return
	}
	if c.Protocol == protoTCP {
		if s := tcpStateName(c.TCPState); s != "" {
			b.add(StringAttr(KeyConntrackTCPState, s))
		}
	}
	if c.Mark != 0 {
		b.add(IntAttr(KeyConntrackMark, int64(c.Mark)))
	}
	if c.Zone != 0 {
		b.add(IntAttr(KeyConntrackZone, int64(c.Zone)))
	}
	b.add(StringAttr(KeyConntrackOriginalSource, b.names.endpoint(source(c, &c.Original))))
	b.add(StringAttr(KeyConntrackOriginalDestination, b.names.endpoint(destination(c, &c.Original))))
	b.add(StringAttr(KeyConntrackReplySource, b.names.endpoint(source(c, &c.Reply))))
	b.add(StringAttr(KeyConntrackReplyDestination, b.names.endpoint(destination(c, &c.Reply))))
}

// conntrackState adds what an event says too: state, direction, status, mapping.
func (b *Builder) conntrackState(c *event.Conntrack) {
	state, direction := conntrackInfo(c.Info)
	if state != "" {
		b.add(StringAttr(KeyConntrackState, state))
	}
	if direction != "" {
		b.add(StringAttr(KeyConntrackDirection, direction))
	}
	t := &b.trace
	at := len(t.strings)
	for i, name := range conntrackStatusNames() {
		if name != "" && c.Status&(1<<i) != 0 {
			t.strings = append(t.strings, name)
		}
	}
	if n := len(t.strings) - at; n > 0 {
		b.add(listAttr(KeyConntrackStatus, at, n))
	}
	if m, ok := sourceNAT(c); ok {
		b.add(StringAttr(KeyNATSource, b.names.mapping(m)))
	}
	if m, ok := destinationNAT(c); ok {
		b.add(StringAttr(KeyNATDestination, b.names.mapping(m)))
	}
}

// conntrackEvents gives the root an event for each state of a connection that had
// several, among its others: when it was first seen, translated, confirmed.
func (b *Builder) conntrackEvents() {
	t := &b.trace
	if len(t.Conntracks) < 2 {
		return
	}
	for i := range t.Conntracks[:min(len(t.Conntracks), maxConntrackEvents)] {
		c := &t.Conntracks[i]
		from := len(b.attrs)
		b.conntrackState(c)
		b.add(IntAttr(KeyOffsetNs, int64(c.AtMonoNs-t.EnterMonoNs)))
		b.events = append(b.events, SpanEvent{Name: "conntrack", UnixNs: t.unix(c.AtMonoNs), Attrs: b.cut(from)})
	}
	slices.SortStableFunc(b.events, func(x, y SpanEvent) int {
		return int(int64(x.UnixNs - y.UnixNs))
	})
}

// conntrackInfo names an enum ip_conntrack_info.
func conntrackInfo(i event.ConntrackInfo) (state, direction string) {
	switch i {
	case event.ConntrackEstablished:
		return "established", "original"
	case event.ConntrackRelated:
		return "related", "original"
	case event.ConntrackNew:
		return "new", "original"
	case event.ConntrackEstablishedReply:
		return "established", "reply"
	case event.ConntrackRelatedReply:
		return "related", "reply"
	case event.ConntrackUntracked:
		return "untracked", ""
	}
	return "", ""
}

// conntrackStatusNames is indexed by the bit of event.ConntrackStatus.
func conntrackStatusNames() [15]string {
	return [15]string{
		0: "expected", 1: "seen_reply", 2: "assured", 3: "confirmed", 4: "snat", 5: "dnat", 9: "dying", 14: "offload",
	}
}

// tcpStateName names an enum tcp_conntrack as conntrack(8) does.
func tcpStateName(state uint8) string {
	return nameAt(int64(state), "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT",
		"LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2")
}

// netfilterNames remembers the strings of connections and rules.
type netfilterNames struct {
	endpoints map[endpoint]string
	mappings  map[mapping]string
	long      map[[64]byte]string
}

func newNetfilterNames() netfilterNames {
	return netfilterNames{
		endpoints: map[endpoint]string{}, mappings: map[mapping]string{}, long: map[[64]byte]string{},
	}
}

// endpoint is the text of an address, with the port if it has one.
func (c *nameCache) endpoint(e endpoint) string {
	if !e.hasPort {
		return c.address(e.family, e.address)
	}
	if s, ok := c.netfilter.endpoints[e]; ok {
		return s
	}
	a, _ := netip.ParseAddr(c.address(e.family, e.address))
	return remember(c.netfilter.endpoints, e, netip.AddrPortFrom(a, e.port).String())
}

// mapping is the text "from → to".
func (c *nameCache) mapping(m mapping) string {
	if s, ok := c.netfilter.mappings[m]; ok {
		return s
	}
	return remember(c.netfilter.mappings, m, c.endpoint(m.from)+" → "+c.endpoint(m.to))
}

// longName returns a NUL-terminated name.
func (c *nameCache) longName(b [64]byte) string {
	if s, ok := c.netfilter.long[b]; ok {
		return s
	}
	n := slices.Index(b[:], 0)
	if n < 0 {
		n = len(b)
	}
	return remember(c.netfilter.long, b, valid(string(b[:n])))
}
