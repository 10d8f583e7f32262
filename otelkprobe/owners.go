package otelkprobe

import (
	"net"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// owners knows which request each socket of a transport belongs to. net/http hands a
// connection to the next request before it tells the one before that it is through, so
// a request may release only what is still its own. Statements are made under the lock:
// they have the order of the changes.
type owners struct {
	note noteFunc

	mu       sync.Mutex
	bySocket map[net.Conn]owner // bound sockets, by their innermost layer
}

// owner is the request that a socket is bound to.
type owner struct {
	socket
	*claim
}

// claim is what one request holds: the connection that it got and one that was dialled
// for it, which may be another.
type claim struct {
	owners *owners
	span   trace.SpanContext

	// Under the lock of owners.
	sockets  []net.Conn
	released bool
}

func newOwners(note noteFunc) *owners {
	return &owners{note: note, bySocket: map[net.Conn]owner{}}
}

// got gives the connection to the claim, whoever had it. A shared connection, or one
// for a request without a span, is nobody's from then on.
func (c *claim) got(conn net.Conn, shared bool) {
	s, ok := socketOf(conn)
	if !ok {
		return
	}
	o := c.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	before, bound := o.bySocket[s.key]
	switch {
	case shared || c.released || !c.span.IsValid():
		if bound {
			o.releaseLocked(before)
		}
	case before.claim != c:
		if s.state(o.note, whatBinds, c.span) {
			o.addLocked(s, c)
		}
	}
}

// dialled takes note of a new connection, which was bound while it was dialled. The
// request may be over by then: it got another one.
func (c *claim) dialled(conn net.Conn) {
	s, ok := socketOf(conn)
	if !ok || !c.span.IsValid() {
		return
	}
	o := c.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.released {
		o.releaseLocked(owner{s, c})
		return
	}
	o.addLocked(s, c)
}

// release gives back what is still the claim's, for good. It may be called several times.
func (c *claim) release() {
	c.owners.mu.Lock()
	defer c.owners.mu.Unlock()
	c.released = true
	c.giveBackLocked()
}

// idle gives it back where a connection is done with. The request may get another one: a
// base may send it again.
func (c *claim) idle() {
	c.owners.mu.Lock()
	defer c.owners.mu.Unlock()
	c.giveBackLocked()
}

func (c *claim) giveBackLocked() {
	for _, key := range c.sockets {
		if bound := c.owners.bySocket[key]; bound.claim == c {
			c.owners.releaseLocked(bound)
		}
	}
	c.sockets = nil
}

// holds says whether something is still the claim's.
func (c *claim) holds() bool {
	c.owners.mu.Lock()
	defer c.owners.mu.Unlock()
	return len(c.sockets) > 0
}

func (o *owners) addLocked(s socket, c *claim) {
	o.bySocket[s.key] = owner{s, c}
	c.sockets = append(c.sockets, s.key)
}

// releaseLocked releases a socket. A closed one has left the kernel by itself.
func (o *owners) releaseLocked(bound owner) {
	bound.state(o.note, whatReleases, bound.span)
	delete(o.bySocket, bound.key)
}
