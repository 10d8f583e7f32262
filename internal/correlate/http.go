package correlate

import (
	"bytes"
	"strings"
)

const (
	maxMethodBytes = 16
	versionBytes   = len(" HTTP/1.1")
	http2Line      = "PRI * HTTP/2.0" // RFC 9113, section 3.4
)

// methods are those of RFC 9110, section 9.3, and of RFC 5789. Others are recognised
// when they are complete.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// field is one of the header fields that are read.
type field uint8

const (
	fieldOther field = iota
	fieldTraceparent
	fieldContentLength
	fieldTransferEncoding
	fieldUpgrade
	fieldCount
)

// fieldNames is indexed by field.
var fieldNames = [fieldCount]string{"", "traceparent", "content-length", "transfer-encoding", "upgrade"}

// looksLikeHTTP tells a request line by its method and the begin of its target, or the
// begin of a well-known method where no more is there.
func looksLikeHTTP(b []byte) bool {
	n := 0
	for n < len(b) && n <= maxMethodBytes && b[n] >= 'A' && b[n] <= 'Z' {
		n++
	}
	switch {
	case n == 0 || n > maxMethodBytes:
		return false
	case n == len(b):
		return beginsMethod(string(b))
	case b[n] != ' ' || n < 3:
		return false
	case n+1 == len(b) || string(b[:n]) == "CONNECT":
		return true
	}
	// RFC 9112, section 3.2: origin, asterisk or absolute form.
	return b[n+1] == '/' || b[n+1] == '*' || b[n+1] == 'h'
}

func beginsMethod(b string) bool {
	for _, m := range methods {
		if strings.HasPrefix(m, b) {
			return true
		}
	}
	return false
}

// headParser reads the head of an HTTP/1 request, line by line (RFC 9112).
type headParser struct {
	k       keeper
	m       message
	last    field // of the line before
	connect bool
	upgrade bool

	contentLengths int
	contentLength  uint32
	unknownLength  bool
}

// parseHead reads a head as far as it is there. Lines may end with a bare LF, as
// RFC 9112, section 2.2, permits.
func parseHead(b []byte, k keeper) message {
	h := headParser{}
	for at := 0; ; {
		h.k = k.from(at)
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			h.partial(b[at:], at == 0)
			h.m.state, h.m.open, h.m.length = stateIncomplete, true, uint32(len(b))
			return h.m
		}
		line := b[at : at+n]
		h.k.keep(n, n+1)
		if n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
			h.k.keep(n-1, n)
		}
		switch {
		case at == 0:
			if !h.requestLine(line) {
				return h.m
			}
		case len(line) == 0:
			h.end(uint32(at + n + 1))
			return h.m
		default:
			h.line(line)
		}
		at += n + 1
	}
}

// requestLine reports false when it is none of HTTP/1.
func (h *headParser) requestLine(line []byte) bool {
	if string(line) == http2Line {
		h.k.keep(0, len(line))
		h.m.opaque = true
		return false
	}
	method, _, _ := bytes.Cut(line, []byte{' '})
	h.k.keep(0, len(method)+2) // with the begin of the target, by which it is recognised
	n := len(line) - versionBytes
	if n < len(method)+2 || !bytes.HasPrefix(line[n:], []byte(" HTTP/1.")) || line[len(line)-1] < '0' || line[len(line)-1] > '9' {
		return false
	}
	h.k.keep(n, len(line))
	h.connect = string(method) == "CONNECT"
	return true
}

// line reads a header field.
func (h *headParser) line(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		// It goes on with the field before it: RFC 9112, section 5.2, forbids it, and
		// servers disagree about it.
		h.k.keep(0, 1)
		switch h.last {
		case fieldTraceparent:
			h.m.valid = false
		case fieldContentLength:
			h.unknownLength = true
		}
		return
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	h.last = fieldOf(name)
	if h.last == fieldOther {
		return
	}
	h.k.keep(0, len(line))
	value = bytes.Trim(value, " \t") // RFC 9112, section 5.1
	switch h.last {
	case fieldTraceparent:
		h.m.traceparent(value)
	case fieldContentLength:
		h.contentLengths++
		h.contentLength = decimal(value)
		h.unknownLength = h.unknownLength || h.contentLengths > 1 || h.contentLength >= maxDistance
	case fieldTransferEncoding:
		h.unknownLength = true
	case fieldUpgrade:
		// A client that offers HTTP/2 goes on with HTTP/1, or with HTTP/2's first
		// line: RFC 7540, section 3.2. Java's client offers it in each first request.
		h.upgrade = h.upgrade || !bytes.EqualFold(value, []byte("h2c"))
	}
}

// fieldOf gives the field of a name. A name with space at its end is none: servers
// must reject it (RFC 9112, section 5.1).
func fieldOf(name []byte) field {
	for f := fieldOther + 1; f < fieldCount; f++ {
		if len(name) == len(fieldNames[f]) && strings.EqualFold(string(name), fieldNames[f]) {
			return f
		}
	}
	return fieldOther
}

// partial keeps what is needed of a line whose end is not there.
func (h *headParser) partial(line []byte, first bool) {
	n := len(line)
	if n > 0 && line[n-1] == '\r' {
		h.k.keep(n-1, n)
	}
	if first {
		h.partialRequestLine(line)
		return
	}
	if n > 0 && (line[0] == ' ' || line[0] == '\t') {
		h.k.keep(0, 1)
		return
	}
	name, _, colon := bytes.Cut(line, []byte{':'})
	for f := fieldOther + 1; f < fieldCount; f++ {
		want := fieldNames[f]
		if len(name) <= len(want) && (!colon || len(name) == len(want)) && strings.EqualFold(string(name), want[:len(name)]) {
			h.k.keep(0, n)
		}
	}
}

// partialRequestLine keeps the method, and what may be the begin of the version.
func (h *headParser) partialRequestLine(line []byte) {
	if preface := http2Line + "\r"; strings.HasPrefix(preface, string(line)) {
		h.k.keep(0, len(line))
		return
	}
	method, _, _ := bytes.Cut(line, []byte{' '})
	h.k.keep(0, len(method)+2)
	const version = " HTTP/1."
	if at := bytes.LastIndexByte(line, ' '); at > 0 && len(line)-at <= versionBytes+1 {
		if tail := line[at:]; strings.HasPrefix(version, string(tail[:min(len(tail), len(version))])) {
			h.k.keep(at, len(line))
		}
	}
}

// end is called at the empty line, with the length of the head.
func (h *headParser) end(length uint32) {
	h.m.state, h.m.length, h.m.open = stateComplete, length, h.unknownLength
	if !h.m.open {
		h.m.length += h.contentLength // which is below maxDistance
	}
	h.m.opaque = h.connect || h.upgrade
}

// decimal gives maxDistance for what is no number, or one that is not below it.
func decimal(b []byte) uint32 {
	n := uint32(0)
	for _, d := range b {
		if d < '0' || d > '9' {
			return maxDistance
		}
		if n = n*10 + uint32(d-'0'); n >= maxDistance {
			return maxDistance
		}
	}
	if len(b) == 0 {
		return maxDistance
	}
	return n
}
