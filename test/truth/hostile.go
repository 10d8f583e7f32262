package truth

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// HostilePlan is what a client does that wants to be taken for another one.
type HostilePlan struct {
	Address string
	Repeat  int // of all cases
}

// hostileCase is one connection. Its requests are written as they are; a piece of its
// own is written after a pause.
type hostileCase struct {
	name     string
	requests []hostileRequest
	refused  bool // the server may close the connection instead of answering
}

// hostileRequest is one request. NUMBER in a piece is its number, ID a traceparent.
// Another one, of a trace that there is not, is FOREIGN.
type hostileRequest struct {
	pieces []string
	tied   bool // its packets may be tied to ID, else to nothing
}

// hostilePause lets each piece be a packet of its own.
const hostilePause = 50 * time.Millisecond

// head is a request's, with further lines.
func head(lines ...string) string {
	all := append([]string{"GET /?request=NUMBER&size=300 HTTP/1.1", "Host: truth"}, lines...)
	return strings.Join(all, "\r\n") + "\r\n\r\n"
}

// hostileCases are ways to have packets tied to a span that they are not of.
func hostileCases() []hostileCase {
	id, foreign := "traceparent: ID", "traceparent: FOREIGN"
	none := func(pieces ...string) []hostileRequest { return []hostileRequest{{pieces, false}} }
	own := func(pieces ...string) []hostileRequest { return []hostileRequest{{pieces, true}} }
	filler := "X-Filler: " + strings.Repeat("f", 2000)
	smuggled := "GET /?request=0&size=0 HTTP/1.1\r\nHost: truth\r\n" + foreign + "\r\n\r\n"
	whole := head(id)
	middle := strings.Index(whole, "ID")
	cases := []hostileCase{
		{"in order", own(whole), false},
		{"two of them", none(head(foreign, foreign)), false},
		{"two different", none(head(foreign, "traceparent: "+otherTraceparent)), false},
		{"far behind", own(head(filler, id)), false},
		{"far behind, in pieces", own(head(filler)[:1500], head(filler, id)[1500:]), false},
		{"broken off in the value", own(whole[:middle], whole[middle:]), false},
		{"broken off in the name", own(whole[:middle-8], whole[middle-8:]), false},
		{"broken off often", own(whole[:10], whole[10:30], whole[30:middle-3], whole[middle-3:middle], whole[middle:]), false},
		{"begun and left", own(strings.TrimSuffix(whole, "\r\n")), true},
		{"pipelined", []hostileRequest{{[]string{whole}, true}, {[]string{whole}, true}, {[]string{whole}, true}}, false},
		{"pipelined, one without", []hostileRequest{{[]string{whole}, true}, {[]string{head()}, false}, {[]string{whole}, true}}, false},
		{"one after the other", []hostileRequest{{[]string{whole}, true}, {[]string{"", head()}, false}, {[]string{"", whole}, true}}, false},
		{"in another's value", none(head("X: " + foreign)), false},
		{"in the target", none(strings.Replace(head(), "size=300", "size=300&traceparent:FOREIGN", 1)), false},
		{"space before the colon", none(head("traceparent : FOREIGN")), true},
		{"folded", none(head("X: y", " "+foreign)), true},
		{"a request in a body", own(bodied(id, smuggled), smuggled), false},
		{"a request in a body, own", none(bodied("X: y", smuggled), smuggled), false},
		{"HTTP/2", none("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", foreign+"\r\n\r\n"), true},
		{"no HTTP", none("Q\x00\x00\x00\x30SELECT 1 /*traceparent='FOREIGN'*/"), true},
		{"other case", own(head("TraceParent: ID")), false},
	}
	for _, value := range invalidTraceparents() {
		cases = append(cases, hostileCase{"invalid " + value, none(head("traceparent: " + value)), false})
	}
	return cases
}

// bodied is the head of a request with a body.
func bodied(line, body string) string {
	return strings.Replace(head(line, fmt.Sprintf("Content-Length: %d", len(expand(body, "", "")))), "GET", "POST", 1)
}

// invalidTraceparents are values that W3C trace context has nobody use
// (https://www.w3.org/TR/trace-context/#traceparent-header).
func invalidTraceparents() []string {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	return []string{
		"", "00", "00-" + trace, "00-" + trace + "-" + span, "00-" + trace + "-" + span + "-1",
		"ff-" + trace + "-" + span + "-01", "00-" + trace + "-" + span + "-01-extra", "00-" + trace + "-" + span + "-01x",
		"00-" + strings.ToUpper(trace) + "-" + span + "-01", "00-" + trace[1:] + "g-" + span + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01",
		"00_" + trace + "_" + span + "_01", "0-" + trace + "-" + span + "-01",
	}
}

// These name traces that no request is of.
const (
	foreignTraceparent = "00-f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0-f0f0f0f0f0f0f0f0-01"
	otherTraceparent   = "00-f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1-f1f1f1f1f1f1f1f1-01"
)

func expand(text, number, id string) string {
	return strings.NewReplacer("NUMBER", number, "FOREIGN", foreignTraceparent, "ID", id).Replace(text)
}

// RunHostile makes the connections of all cases, one after the other, and gives its
// log.
func RunHostile(ctx context.Context, plan HostilePlan) (Log, error) {
	var b book
	number := 0
	for range plan.Repeat {
		for _, c := range hostileCases() {
			if err := c.run(ctx, plan.Address, &b, number+1); err != nil {
				return b.finish(), fmt.Errorf("case %q: %w", c.name, err)
			}
			number += len(c.requests)
		}
	}
	return b.finish(), nil
}

// run makes one connection, whose requests are numbered from first on.
func (c *hostileCase) run(ctx context.Context, address string, b *book, first int) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(requestWithin)); err != nil {
		return err
	}
	conn := b.add(newCountedConn(raw, false))
	if c.requests[0].tied {
		conn.log.DialledFor = first
	}
	pieces := c.write(b, conn, first)
	for i, piece := range pieces {
		if i > 0 {
			time.Sleep(hostilePause)
		}
		if _, err := io.WriteString(conn, piece); err != nil && !c.refused {
			return err
		}
	}
	if c.refused {
		time.Sleep(hostilePause)
		return nil
	}
	answers := bufio.NewReader(conn)
	for range c.requests {
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("answer %s", answer.Status)
		}
	}
	return nil
}

// write logs the requests, and gives the pieces to be written: the first piece of a
// request goes with the last one of the request before it.
func (c *hostileCase) write(b *book, conn *countedConn, first int) (pieces []string) {
	at := int64(0)
	for i, r := range c.requests {
		e := Exchange{Request: first + i}
		id := foreignTraceparent
		if r.tied {
			var random [24]byte
			_, _ = rand.Read(random[:]) // it never fails
			e.TraceID, e.ClientSpan = hex.EncodeToString(random[:16]), hex.EncodeToString(random[16:])
			id = "00-" + e.TraceID + "-" + e.ClientSpan + "-01"
		}
		b.exchange(e)
		part := Part{Request: e.Request, From: at}
		for k, piece := range r.pieces {
			piece = expand(piece, fmt.Sprint(e.Request), id)
			at += int64(len(piece))
			if k == 0 && i > 0 {
				pieces[len(pieces)-1] += piece
			} else {
				pieces = append(pieces, piece)
			}
		}
		part.To = at
		conn.log.Requests = append(conn.log.Requests, part)
	}
	return pieces
}
