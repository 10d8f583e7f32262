package correlate

import (
	"bytes"
	"encoding/binary"
)

const (
	// sqlHeaderBytes is the length of a PostgreSQL message's type and length, and of a
	// MySQL packet's header and command.
	sqlHeaderBytes = 5
	maxSQLBytes    = 1 << 24
	mysqlQuery     = 3 // COM_QUERY
)

// looksLikePostgres tells a Query or Parse message:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
func looksLikePostgres(b []byte) bool {
	if len(b) < sqlHeaderBytes || b[0] != 'Q' && b[0] != 'P' {
		return false
	}
	n := binary.BigEndian.Uint32(b[1:])
	return n > 4 && n < maxSQLBytes
}

// looksLikeMySQL tells a COM_QUERY, the first packet of a command:
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
func looksLikeMySQL(b []byte) bool {
	return len(b) >= sqlHeaderBytes && b[3] == 0 && b[4] == mysqlQuery && mysqlLength(b) > 1
}

// mysqlLength is the length of a packet without its header.
func mysqlLength(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

func parsePostgres(b []byte, k keeper) message {
	m := message{state: stateComplete, length: 1 + binary.BigEndian.Uint32(b[1:])}
	k.keep(0, sqlHeaderBytes)
	text := b[sqlHeaderBytes:min(uint32(len(b)), m.length)]
	at := sqlHeaderBytes
	if b[0] == 'P' { // the statement's name comes before it
		n := lengthTo(text, 0, "\x00")
		if n > 0 && text[n-1] == 0 {
			k.keep(at+n-1, at+n)
		}
		at, text = at+n, text[n:]
	}
	if n := bytes.IndexByte(text, 0); n >= 0 {
		k.keep(at+n, at+n+1)
		text = text[:n]
	}
	comments := commentParser{m: &m, k: k.from(at), text: text, postgres: true}
	comments.parse()
	if uint32(len(b)) < m.length {
		m.state = stateIncomplete
	} else if b[0] == 'P' {
		m.length = postgresSync(b, m.length, k)
	}
	return m
}

// postgresSync gives where what belongs to a Parse message ends, as far as it can be
// seen: its Bind, Describe, Execute … up to Sync, behind which is the next query.
func postgresSync(b []byte, at uint32, k keeper) uint32 {
	for at+sqlHeaderBytes <= uint32(len(b)) {
		n := binary.BigEndian.Uint32(b[at+1:])
		if bytes.IndexByte([]byte("BCDEHS"), b[at]) < 0 || n < 4 || n >= maxSQLBytes {
			break
		}
		k.keep(int(at), int(at)+sqlHeaderBytes)
		sync := b[at] == 'S'
		at += 1 + n
		if sync {
			break
		}
	}
	return at
}

func parseMySQL(b []byte, k keeper) message {
	m := message{state: stateComplete, length: 4 + mysqlLength(b)}
	k.keep(0, sqlHeaderBytes)
	text := b[sqlHeaderBytes:min(uint32(len(b)), m.length)]
	comments := commentParser{m: &m, k: k.from(sqlHeaderBytes), text: text}
	comments.parse()
	if uint32(len(b)) < m.length {
		m.state = stateIncomplete
	}
	return m
}

// commentParser finds the traceparent in the comments of a query, as
// https://open-telemetry.github.io/opentelemetry-sqlcommenter/specifications puts it
// there: /*key='value',traceparent='…'*/. What is in a string or an identifier is no
// comment: that may be anybody's.
type commentParser struct {
	m        *message
	k        keeper
	text     []byte
	postgres bool
}

func (p *commentParser) parse() {
	for i := 0; i < len(p.text); {
		switch b := p.text[i]; {
		case b == '\'' || b == '"' || b == '`':
			i += p.quoted(i)
		case b == '#' && !p.postgres, b == '-' && p.next(i) == '-':
			i += lengthTo(p.text[i:], 0, "\n")
		case b == '/' && p.next(i) == '*':
			i += p.comment(i)
		case b == '/' && i == len(p.text)-1:
			p.k.keep(i, i+1) // what goes on may make a comment of it
			i++
		default:
			i++
		}
	}
}

// next gives the byte behind an index, 0 at the end.
func (p *commentParser) next(i int) byte {
	if i+1 < len(p.text) {
		return p.text[i+1]
	}
	return 0
}

// lengthTo is the number of bytes up to and with the first end from an index on.
func lengthTo(b []byte, from int, end string) int {
	if n := bytes.Index(b[from:], []byte(end)); n >= 0 {
		return from + n + len(end)
	}
	return len(b)
}

// quoted gives the length of what is quoted at an index. A quote that is doubled
// begins another one.
func (p *commentParser) quoted(at int) int {
	text := p.text[at:]
	escapes := text[0] != '`' && !p.postgres ||
		text[0] == '\'' && at > 0 && (p.text[at-1] == 'E' || p.text[at-1] == 'e')
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && escapes:
			i++
		case text[i] == text[0]:
			return i + 1
		}
	}
	return len(text)
}

const traceparentKey = "traceparent='"

// comment reads the comment at an index and gives its length.
func (p *commentParser) comment(at int) int {
	length := lengthTo(p.text[at:], 2, "*/")
	body := p.text[at+2 : at+length]
	closed := bytes.HasSuffix(body, []byte("*/"))
	k := p.k.from(at)
	k.keep(0, 2)
	switch {
	case closed:
		body = body[:len(body)-2]
		k.keep(length-2, length)
	case len(body) > 0 && body[len(body)-1] == '*':
		k.keep(length-1, length) // what goes on may end the comment
	}
	for i := 2; ; {
		pair, rest, more := bytes.Cut(body, []byte{','})
		p.pair(pair, k.from(i), closed || more, closed)
		if !more {
			return length
		}
		k.keep(i+len(pair), i+len(pair)+1)
		i += len(pair) + 1
		body = rest
	}
}

// pair reads a key with its value, if it is a traceparent; of what is not complete it
// keeps what may become one.
func (p *commentParser) pair(pair []byte, k keeper, complete, closed bool) {
	trimmed := bytes.TrimLeft(pair, " \t\r\n")
	n := min(len(trimmed), len(traceparentKey))
	if string(trimmed[:n]) != traceparentKey[:n] || complete && n < len(traceparentKey) {
		return
	}
	k.keep(0, len(pair))
	value, found := bytes.CutSuffix(bytes.TrimRight(trimmed[n:], " \t\r\n"), []byte{'\''})
	if found && closed {
		var room [2 * traceparentBytes]byte
		p.m.traceparent(unescape(room[:0], value))
	} else if complete && closed {
		p.m.traceparent(nil)
	}
}

// unescape decodes a URL-encoded value, as far as dst has room.
func unescape(dst, value []byte) []byte {
	for i := 0; i < len(value) && len(dst) < cap(dst); i++ {
		var b [1]byte
		if value[i] == '%' && i+2 < len(value) && unhex(b[:], bytes.ToLower(value[i+1:i+3])) {
			dst = append(dst, b[0])
			i += 2
			continue
		}
		dst = append(dst, value[i])
	}
	return dst
}
