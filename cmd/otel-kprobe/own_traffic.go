package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// ownTraffic keeps the packets that carry our spans from being traced, which
// would make new spans without end. It dials the OTLP connections and tells the
// kernel side of each one, before its first packet.
type ownTraffic struct {
	logger *slog.Logger

	mu      sync.Mutex
	objects *bpf.Objects // nil before the programs are loaded
	flows   []flow       // to tell as soon as they are
}

type flow struct{ local, remote netip.AddrPort }

// excludeIn tells objects of all connections from now on.
func (o *ownTraffic) excludeIn(objects *bpf.Objects) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects = objects
	for _, f := range o.flows {
		o.tell(f)
	}
	o.flows = nil
}

// forget is called before the objects are closed.
func (o *ownTraffic) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects = nil
}

// dial is a dialer.
func (o *ownTraffic) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{ControlContext: func(_ context.Context, _, remote string, raw syscall.RawConn) error {
		return o.beforeConnect(remote, raw)
	}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if f, ok := flowOf(conn); ok {
		o.exclude(f)
	}
	return conn, nil
}

// beforeConnect binds the socket to the address that it will have, so that even
// the handshake is excluded. Where that is not to be had, dial excludes the
// connection once it stands.
func (o *ownTraffic) beforeConnect(remote string, raw syscall.RawConn) error {
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil
	}
	source, err := sourceFor(to)
	if err != nil {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		if unix.Bind(int(fd), sockaddr(netip.AddrPortFrom(source, 0))) != nil {
			return
		}
		if local, ok := boundTo(int(fd)); ok {
			o.exclude(flow{local, to})
		}
	})
}

// sourceFor asks the routing table which address a connection would come from.
func sourceFor(to netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
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
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

func flowOf(conn net.Conn) (flow, bool) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return flow{}, false
	}
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return flow{}, false
	}
	return flow{local.AddrPort(), remote.AddrPort()}, true
}

func (o *ownTraffic) exclude(f flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.objects == nil {
		o.flows = append(o.flows, f)
		return
	}
	o.tell(f)
}

// tell needs o.mu.
func (o *ownTraffic) tell(f flow) {
	if err := o.objects.ExcludeFlow(f.local, f.remote); err != nil {
		o.logger.Warn("our own OTLP connection will be traced", "error", err)
	}
}
