package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// flowTable is where the kernel side looks up the connections whose packets it
// leaves alone: *bpf.Objects.
type flowTable interface {
	ExcludeFlow(local, remote netip.AddrPort) error
	IncludeFlow(local, remote netip.AddrPort) error
}

// closedFor is how long a closed connection stays excluded: its last packets
// still travel, and its ports are not used again (TIME_WAIT lasts a minute).
const closedFor = time.Minute

// ownTraffic keeps the packets that carry our spans from being traced, which
// would make new spans without end. It dials the OTLP connections and tells the
// kernel side of each one, before its first packet. Methods may be called
// concurrently.
type ownTraffic struct {
	logger *slog.Logger
	now    func() time.Time

	mu     sync.Mutex
	tables []flowTable // of the programs that are loaded
	open   map[flow]struct{}
	closed map[flow]time.Time // when
}

type flow struct{ local, remote netip.AddrPort }

func newOwnTraffic(logger *slog.Logger) *ownTraffic {
	return &ownTraffic{
		logger: logger,
		now:    time.Now,
		open:   make(map[flow]struct{}),
		closed: make(map[flow]time.Time),
	}
}

// excludeIn tells table of all connections from now on.
func (o *ownTraffic) excludeIn(table flowTable) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tables = append(o.tables, table)
	for f := range o.open {
		o.tell(table, f)
	}
}

// forget is called before the table is closed. Another one changes nothing.
func (o *ownTraffic) forget(table flowTable) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tables = slices.DeleteFunc(o.tables, func(known flowTable) bool { return known == table })
}

// dial is a dialer.
func (o *ownTraffic) dial(ctx context.Context, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", strings.TrimPrefix(path, "//")
	}
	var tried []flow
	d := net.Dialer{
		FallbackDelay: -1, // one attempt at a time: tried has no lock
		ControlContext: func(_ context.Context, _, remote string, raw syscall.RawConn) error {
			if f, ok := bindFor(remote, raw); ok {
				o.exclude(f)
				tried = append(tried, f)
			}
			return nil
		},
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		o.finished(tried...)
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	f := flowOf(tcp)
	o.exclude(f)
	for _, other := range tried {
		if other != f {
			o.finished(other)
		}
	}
	return &ownConn{TCPConn: tcp, closed: sync.OnceFunc(func() { o.finished(f) })}, nil
}

// ownConn tells when it is closed.
type ownConn struct {
	*net.TCPConn
	closed func()
}

// Close implements net.Conn.
func (c *ownConn) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}

// bindFor binds a socket that is going to connect to the address that it will
// have, so that even the handshake is excluded. Where that is not to be had,
// dial excludes the connection once it stands.
func bindFor(remote string, raw syscall.RawConn) (f flow, ok bool) {
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return flow{}, false
	}
	source, err := sourceFor(to)
	if err != nil {
		return flow{}, false
	}
	err = raw.Control(func(fd uintptr) {
		if unix.Bind(int(fd), sockaddr(netip.AddrPortFrom(source, 0))) != nil {
			return
		}
		f.local, ok = boundTo(int(fd))
		f.remote = plain(to)
	})
	return f, ok && err == nil
}

// sourceFor asks the routing table which address a connection would come from.
func sourceFor(to netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return plain(addrPort(conn.LocalAddr())).Addr(), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// boundTo is the address that a socket is bound to.
func boundTo(fd int) (netip.AddrPort, bool) {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return plain(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))), true
	}
	return netip.AddrPort{}, false
}

// flowOf has the addresses as bindFor gives them, so that the two are equal.
func flowOf(conn *net.TCPConn) flow {
	return flow{plain(addrPort(conn.LocalAddr())), plain(addrPort(conn.RemoteAddr()))}
}

// addrPort is the address of a TCP or UDP socket; that of another is invalid.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// plain leaves out what packets do not have: zones, and IPv4 as IPv6.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// exclude tells of a connection, and takes back those long closed.
func (o *ownTraffic) exclude(f flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.closed, f)
	for old, at := range o.closed {
		if o.now().Sub(at) > closedFor {
			delete(o.closed, old)
			o.takeBack(old)
		}
	}
	if _, known := o.open[f]; !known {
		o.open[f] = struct{}{}
		for _, table := range o.tables {
			o.tell(table, f)
		}
	}
}

// finished notes that connections are closed.
func (o *ownTraffic) finished(flows ...flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range flows {
		delete(o.open, f)
		o.closed[f] = o.now()
	}
}

// tell needs o.mu.
func (o *ownTraffic) tell(table flowTable, f flow) {
	if err := table.ExcludeFlow(f.local, f.remote); err != nil {
		o.logger.Warn("our own OTLP connection will be traced", "error", err)
	}
}

// takeBack needs o.mu.
func (o *ownTraffic) takeBack(f flow) {
	for _, table := range o.tables {
		if err := table.IncludeFlow(f.local, f.remote); err != nil {
			o.logger.Warn("packets of a connection that was ours will not be traced", "error", err)
		}
	}
}
