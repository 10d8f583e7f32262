//go:build vm

package scenario

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// segment tells one TCP packet on a wire from every other.
type segment struct {
	from, to netip.AddrPort
	seq, ack uint32
	flags    uint8
}

// tap is the wire's own word on which TCP packets passed an interface.
type tap struct {
	fd   int
	stop [2]int // closing the second end wakes the reader
	done chan []segment
}

// openTap starts to listen at an interface, both directions.
func openTap(t *testing.T, ns, ifname string) *tap {
	t.Helper()
	w := &tap{done: make(chan []segment, 1)}
	err := inNS(ns, func() (err error) {
		w.fd, err = packetSocket(ifname)
		return err
	})
	if err == nil {
		err = unix.Pipe2(w.stop[:], unix.O_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { w.done <- w.listen() }()
	return w
}

func packetSocket(ifname string) (int, error) {
	link, err := net.InterfaceByName(ifname)
	if err != nil {
		return -1, err
	}
	all := binary.BigEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	protocol := all<<8 | all>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// listen reads until the pipe is closed and nothing is left.
func (w *tap) listen() []segment {
	var seen []segment
	buf := make([]byte, 128)
	for {
		for {
			n, _, err := unix.Recvfrom(w.fd, buf, unix.MSG_TRUNC)
			if err != nil {
				break
			}
			if s, ok := parseSegment(buf[:min(n, len(buf))]); ok {
				seen = append(seen, s)
			}
		}
		poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.stop[0])}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return seen
		}
		if poll[1].Revents != 0 && poll[0].Revents == 0 {
			return seen
		}
	}
}

// close returns what passed.
func (w *tap) close(t *testing.T) []segment {
	t.Helper()
	err := unix.Close(w.stop[1])
	seen := <-w.done
	if err := errors.Join(err, unix.Close(w.stop[0]), unix.Close(w.fd)); err != nil {
		t.Fatal(err)
	}
	return seen
}

// parseSegment reads an Ethernet frame with IPv4 and TCP.
func parseSegment(b []byte) (segment, bool) {
	const ether, addresses, protocol = 14, 12, 9
	if len(b) < ether+40 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP {
		return segment{}, false
	}
	ip := b[ether:]
	tcp := ip[int(ip[0]&15)*4:]
	if ip[protocol] != unix.IPPROTO_TCP || len(tcp) < 20 {
		return segment{}, false
	}
	return segment{
		from:  netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[addresses:])), binary.BigEndian.Uint16(tcp)),
		to:    netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[addresses+4:])), binary.BigEndian.Uint16(tcp[2:])),
		seq:   binary.BigEndian.Uint32(tcp[4:]),
		ack:   binary.BigEndian.Uint32(tcp[8:]),
		flags: tcp[13],
	}, true
}

// markWith sets the mark of a socket's packets.
func markWith(mark int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		})
		return errors.Join(err, failed)
	}
}
