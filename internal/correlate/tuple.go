package correlate

import "github.com/otel-kprobe/otel-kprobe/internal/event"

const (
	protocolNumberTCP = 6 // IANA

	tcpFin = 1 // RFC 9293, section 3.1
	tcpSyn = 2
	tcpRst = 4
	tcpAck = 16
)

// tuple is one direction of a TCP connection, as the header has it.
type tuple struct {
	source, destination         [16]byte
	sourcePort, destinationPort uint16
	family                      uint8
}

func payloadTuple(p *event.Payload) tuple {
	return tuple{p.Source, p.Destination, p.SourcePort, p.DestinationPort, p.Family}
}

// factsTuple gives no tuple for what is not TCP, or has no TCP header.
func factsTuple(f *event.Facts) (t tuple, ok bool) {
	const header = event.FactsTuple | event.FactsPorts
	if f.Protocol != protocolNumberTCP || f.Flags&header != header {
		return tuple{}, false
	}
	return tuple{f.Source, f.Destination, f.SourcePort, f.DestinationPort, f.Family}, true
}

func (t tuple) reversed() tuple {
	return tuple{t.destination, t.source, t.destinationPort, t.sourcePort, t.family}
}

// maxDistance is how far sequence numbers of one connection may be apart: they wrap
// around (RFC 9293, section 3.4), and a window has at most 1 GiB (RFC 7323, section 2.3).
const maxDistance = 1 << 30

// distance is how far apart two sequence numbers are, in whichever order.
func distance(a, b uint32) uint32 { return min(a-b, b-a) }

// before compares sequence numbers.
func before(a, b uint32) bool { return int32(a-b) < 0 }
