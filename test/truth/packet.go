package truth

import "net/netip"

// Link is a span of an application that a packet is tied to.
type Link struct {
	Kind    string // sent_by, answers or read_by
	TraceID string
	SpanID  string
	Source  string // thread, helper, payload or tcp_option
}

// Packet is one TCP packet as otel-kprobe shows it.
type Packet struct {
	Name                string // for messages
	Source, Destination netip.AddrPort
	Flags               uint8 // of the TCP header
	Seq, Ack            uint32
	Bytes               int64 // of data
	Retransmission      bool
	Incomplete          bool // otel-kprobe says that something of it is missing
	Links               []Link
}

// Flags of the TCP header.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
)

// Class is what a packet is for.
type Class string

// The classes, in the order of the table.
const (
	ClassHandshake  Class = "handshake"               // with SYN, or acknowledges only that
	ClassSetup      Class = "setup data"              // before the first request or answer
	ClassRequest    Class = "request data"            // has bytes of a request
	ClassAnswer     Class = "answer data"             // has bytes of an answer
	ClassOther      Class = "other data"              // has bytes of neither, such as the end of TLS
	ClassClientACK  Class = "acknowledgement, client" // no data, from the client
	ClassServerACK  Class = "acknowledgement, server" // no data, from the server
	ClassClose      Class = "close"                   // no data, with FIN or RST, or acknowledges only FIN
	ClassUnknown    Class = "handshake not seen"      // so that nobody knows which bytes it has
	ClassUnexpected Class = "unknown connection"      // of none that an end has logged
)

func classes() []Class {
	return []Class{
		ClassHandshake, ClassSetup, ClassRequest, ClassAnswer, ClassOther,
		ClassClientACK, ClassServerACK, ClassClose, ClassUnknown, ClassUnexpected,
	}
}
