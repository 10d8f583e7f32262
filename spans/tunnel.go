package spans

import (
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// leastTunnelHeader is the shortest header that a tunnel puts before a packet: an
// IPv4 header.
const leastTunnelHeader = 20

// UDP ports of tunnels
// (https://www.iana.org/assignments/service-names-port-numbers; 8472 is Linux's own).
const (
	portVXLAN      = 4789
	portVXLANLinux = 8472
	portGeneve     = 6081
)

// findTunnels fills b.depths: each change of an skb's tuple is a tunnel's header
// put before the packet (one less), taken away (one more), or something else, such
// as address translation.
func (b *Builder) findTunnels() {
	facts := b.trace.Facts
	b.depths, b.inner = b.depths[:0], 0
	for i := range facts {
		depth := int32(0)
		if k := b.factsBefore(i); k >= 0 {
			depth = b.depths[k]
			switch {
			case carries(&facts[i], &facts[k]):
				depth--
			case carries(&facts[k], &facts[i]):
				depth++
			}
		}
		b.depths = append(b.depths, depth)
		b.inner = max(b.inner, depth)
	}
}

// factsBefore is the index of the facts with a tuple that the skb of those at i had
// before; of a new skb, those of the packet that it is a copy of: with the same
// tuple. -1 when there are none.
func (b *Builder) factsBefore(i int) int {
	facts := b.trace.Facts
	same := -1
	for k := i - 1; k >= 0; k-- {
		switch f := &facts[k]; {
		case f.Flags&event.FactsTuple == 0:
		case f.Skb == facts[i].Skb:
			return k
		case same < 0 && sameTuple(f, &facts[i]):
			same = k
		}
	}
	return same
}

// carries says whether outer is what inner became when a tunnel's header was put
// before it: another header, farther to the front, of a protocol that carries
// packets. Address translation changes neither place nor length, GRO the length
// only, fragments have the addresses of their packet.
func carries(outer, inner *event.Facts) bool {
	const tuple = event.FactsTuple
	if outer.Flags&inner.Flags&tuple == 0 || outer.NetworkOffset == 0 || inner.NetworkOffset == 0 {
		return false
	}
	if outer.Family == inner.Family && outer.Protocol == inner.Protocol &&
		outer.Source == inner.Source && outer.Destination == inner.Destination {
		return false
	}
	return outer.NetworkOffset != inner.NetworkOffset &&
		int64(outer.NetworkLen) >= int64(inner.NetworkLen)+leastTunnelHeader && carrier(outer.Protocol)
}

// carrier says whether a protocol carries packets of others.
func carrier(protocol uint8) bool {
	switch protocol {
	case protoIPIP, protoUDP, protoIPv6InIP, protoGRE, protoESP, protoAH, protoL2TP, protoMPLS:
		return true
	}
	return false
}

// IANA protocol numbers of what carries packets.
const (
	protoIPIP     = 4
	protoIPv6InIP = 41
	protoGRE      = 47
	protoESP      = 50
	protoAH       = 51
	protoL2TP     = 115
	protoMPLS     = 137
)

// tunnelChange tells what a change of the tuple did to the depth.
func (b *Builder) tunnelChange(was, now int32) Changed {
	switch d := b.depths[now] - b.depths[was]; {
	case d < 0:
		return ChangedEncapsulated
	case d > 0:
		return ChangedDecapsulated
	default:
		return 0
	}
}

func (b *Builder) tunnelChangeAttr(c Changed) {
	switch {
	case c&ChangedEncapsulated != 0:
		b.add(StringAttr(KeyTunnelChange, "encapsulated"))
	case c&ChangedDecapsulated != 0:
		b.add(StringAttr(KeyTunnelChange, "decapsulated"))
	}
}

// tunnelAttrs describes, on the root, the innermost tunnel that the packet was in.
func (b *Builder) tunnelAttrs() {
	t := &b.trace
	outer, least := -1, b.inner
	for i, depth := range b.depths {
		least = min(least, depth)
		if outer < 0 && depth == b.inner-1 && t.Facts[i].Flags&event.FactsTuple != 0 {
			outer = i
		}
	}
	if outer < 0 {
		return
	}
	f := &t.Facts[outer]
	ports := f.Flags&event.FactsPorts != 0 && transport(f) != ""
	b.add(StringAttr(KeyTunnelProtocol, b.tunnelName(f)))
	b.add(StringAttr(KeyTunnelSource, b.names.address(f.Family, f.Source)))
	if ports {
		b.add(IntAttr(KeyTunnelSourcePort, int64(f.SourcePort)))
	}
	b.add(StringAttr(KeyTunnelDestination, b.names.address(f.Family, f.Destination)))
	if ports {
		b.add(IntAttr(KeyTunnelDestinationPort, int64(f.DestinationPort)))
	}
	if depth := b.inner - least; depth > 1 {
		b.add(IntAttr(KeyTunnelDepth, int64(depth)))
	}
}

// tunnelName names a tunnel: by its protocol, one over UDP by its port, or by the
// module that worked on the packet.
func (b *Builder) tunnelName(f *event.Facts) string {
	if f.Protocol != protoUDP {
		if name := ipProtocolName(f.Protocol); name != "" {
			return name
		}
		return "ip proto " + strconv.Itoa(int(f.Protocol))
	}
	for _, port := range [...]uint16{f.DestinationPort, f.SourcePort} {
		switch port {
		case portVXLAN, portVXLANLinux:
			return "vxlan"
		case portGeneve:
			return "geneve"
		}
	}
	for i := range b.trace.Spans {
		switch module := b.trace.Spans[i].Function.Module; module {
		case "vxlan", "geneve", "wireguard", "fou", "gtp", "bareudp":
			return module
		case "l2tp_core":
			return "l2tp"
		}
	}
	return "udp"
}
