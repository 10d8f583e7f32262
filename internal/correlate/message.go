package correlate

import (
	"bytes"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// protocol is what a request is of.
type protocol uint8

const (
	protocolNone protocol = iota
	protocolHTTP
	protocolPostgres
	protocolMySQL
)

// state is how far a request could be read.
type state uint8

const (
	stateNone       state = iota // it is none
	stateIncomplete              // more bytes are needed
	stateComplete
)

// message is what the bytes of a request tell.
type message struct {
	context      event.AppContext // of the first traceparent, when valid
	length       uint32           // of the request; when open, of its head
	state        state
	flags        event.AppFlags
	valid        bool
	open         bool // it does not tell where it ends
	opaque       bool // what follows it, or in its place, is of another protocol
	traceparents uint8
}

// traceparent takes the value of one.
func (m *message) traceparent(value []byte) {
	if m.traceparents == 0 {
		m.context, m.flags, m.valid = parseTraceparent(value)
	}
	m.traceparents = min(m.traceparents, 1) + 1
}

// keeper marks what is needed of the bytes that a parser was given.
type keeper struct {
	needed *neededBytes
	at     int // of the parser's first byte in the payload; negative: in an earlier one
}

func (k keeper) keep(from, to int) { k.needed.add(k.at+from, k.at+to) }

// from is the keeper of what begins further on.
func (k keeper) from(at int) keeper { return keeper{k.needed, k.at + at} }

// recognise tells by its first bytes whether b may be a request. The three have no
// beginning in common: a length below 16 MiB begins with a zero byte.
func recognise(b []byte) protocol {
	switch {
	case looksLikeHTTP(b):
		return protocolHTTP
	case looksLikePostgres(b):
		return protocolPostgres
	case looksLikeMySQL(b):
		return protocolMySQL
	}
	return protocolNone
}

// beginBytes is how many bytes of b a request is recognised by.
func beginBytes(b []byte) int {
	if recognise(b) != protocolHTTP {
		return sqlHeaderBytes
	}
	return bytes.IndexByte(b[:min(len(b), maxMethodBytes+1)], ' ') + 2
}

// parse reads the request at b's begin.
func parse(b []byte, k keeper) message {
	switch recognise(b) {
	case protocolHTTP:
		return parseHead(b, k)
	case protocolPostgres:
		return parsePostgres(b, k)
	case protocolMySQL:
		return parseMySQL(b, k)
	}
	return message{}
}

// blankBytes counts the bytes of empty lines, which may come before a request:
// RFC 9112, section 2.2. The length that a MySQL packet begins with may look like one.
func blankBytes(b []byte) int {
	n := 0
	for n < len(b) && (b[n] == '\r' || b[n] == '\n') && !looksLikeMySQL(b[n:]) {
		n++
	}
	return n
}
