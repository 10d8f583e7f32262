package truth

import (
	"net"
	"net/netip"
	"sync"
)

// countedConn is a TCP connection whose bytes are counted, with the parts of its
// requests. It is safe for concurrent use.
type countedConn struct {
	net.Conn
	server bool // this end is the server's

	mu            sync.Mutex
	written, read int64
	open          bool // the last parts have no end yet
	log           Connection
}

func newCountedConn(conn net.Conn, server bool) *countedConn {
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if server {
		local, remote = remote, local
	}
	return &countedConn{Conn: conn, server: server, log: Connection{Client: local, Server: remote}}
}

// addrPort is an address without the prefix that maps IPv4 into IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// NetConn is the connection below, for who needs its socket.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn. It counts before it returns.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read += int64(n)
	return n, err
}

// Write implements net.Conn. It counts before it writes: the answer may come first.
func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.written += int64(len(p))
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	if n < len(p) {
		c.mu.Lock()
		c.written -= int64(len(p) - n)
		c.mu.Unlock()
	}
	return n, err
}

// begin notes that a request begins; the one before has ended. A client calls it
// before the first byte is written. A server has read some bytes of the request by
// then: it begins where the last one ended, which is right of a client that waits for
// answers.
func (c *countedConn) begin(request int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
	requestFrom, answerFrom := c.written, c.read
	if c.server {
		requestFrom, answerFrom = 0, c.written
		if n := len(c.log.Requests); n > 0 {
			requestFrom = c.log.Requests[n-1].To
		}
	}
	c.log.Requests = append(c.log.Requests, Part{Request: request, From: requestFrom})
	c.log.Answers = append(c.log.Answers, Part{Request: request, From: answerFrom})
	c.open = true
}

// received notes at a server that all of the last request has been read. The answer
// must not have been written yet: net/http reads the first byte of a further request
// while a handler runs.
func (c *countedConn) received() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Requests[len(c.log.Requests)-1].To = c.read
}

// end notes that the answer to the last request has been read, or written.
func (c *countedConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
}

// endOf is end, unless another request has begun meanwhile.
func (c *countedConn) endOf(request int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.log.Requests); n > 0 && c.log.Requests[n-1].Request == request {
		c.close()
	}
}

func (c *countedConn) close() {
	if !c.open {
		return
	}
	c.open = false
	if c.server {
		c.log.Answers[len(c.log.Answers)-1].To = c.written
		return
	}
	c.log.Requests[len(c.log.Requests)-1].To = c.written
	c.log.Answers[len(c.log.Answers)-1].To = c.read
}

// connection is what has been logged.
func (c *countedConn) connection() Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
	return c.log
}

// book collects what a role logs. It is safe for concurrent use.
type book struct {
	mu        sync.Mutex
	conns     []*countedConn
	exchanges []Exchange
}

func (b *book) add(c *countedConn) *countedConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
	return c
}

func (b *book) exchange(e Exchange) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exchanges = append(b.exchanges, e)
}

// finish gives the log.
func (b *book) finish() Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := Log{Exchanges: b.exchanges}
	for _, c := range b.conns {
		l.Connections = append(l.Connections, c.connection())
	}
	return l
}

// counted is the connection below HTTP and TLS, nil for a foreign one.
func counted(conn net.Conn) *countedConn {
	for conn != nil {
		if c, ok := conn.(*countedConn); ok {
			return c
		}
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = above.NetConn()
	}
	return nil
}
