package event

// Bounds of a Payload.
const (
	MaxTCPOptionBytes = 40 // RFC 9293, section 3.1
	MaxPayloadBytes   = 1024
)

// Payload is the beginning of what a TCP packet carries, told of a packet whose first
// bytes look like a request that may name a span, of those that go on where such a
// packet broke off, and of one with the TCP option of OpenTelemetry eBPF
// Instrumentation. Its bytes must not leave the machine.
type Payload struct {
	Journey         uint64
	Skb             uint64
	AtMonoNs        uint64
	Source          [16]byte // as in Facts
	Destination     [16]byte
	Seq             uint32 // of the first byte of data
	Ack             uint32
	Length          uint32 // bytes of data that the packet carries
	CPU             uint16
	SourcePort      uint16
	DestinationPort uint16
	DataBytes       uint16 // of Data that are known: the first ones
	OptionBytes     uint8  // of Options
	Family          uint8  // 4 or 6
	TCPFlags        uint8
	Options         [MaxTCPOptionBytes]byte // the TCP header's, as they stand in it
	Data            [MaxPayloadBytes]byte
}
