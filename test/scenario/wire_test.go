//go:build vm

package scenario

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

const (
	portQuery  = 7441
	portOption = 7442 // nobody listens there
)

// The spans that the packets of TestWire name, besides HTTP's.
const (
	spanQuery  = 0x51
	spanOption = 0x0b
)

// TestWire sends a query of PostgreSQL whose comment names a span, and a packet with the
// TCP option of eBPF instrumentation, and expects both and the answer to be tied.
func TestWire(t *testing.T) {
	tr := start(t, "--filter-func", httpFunctions, fmt.Sprintf("tcp port %d or tcp port %d", portQuery, portOption))
	query(t)
	sendWithOption(t)
	o := tr.stop(t)
	checkSums(t, o, "file")
	var got []string
	eachTrace(t, o.output(), func(j *journey, spans ptrace.SpanSlice) {
		if j.root.number("otel_kprobe.tcp.retransmit") > 0 {
			return // the acknowledgement was late
		}
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			source, ofApp := link.Attributes().Get("otel_kprobe.app.source")
			if id, trace := link.SpanID(), link.TraceID(); ofApp && trace == appTrace && j.root.number("otel_kprobe.tcp.flags")&tcpPush != 0 {
				got = append(got, fmt.Sprintf("%s %x by %s", kind.Str(), id[7], source.Str()))
			}
		}
	})
	slices.Sort(got)
	want := []string{
		fmt.Sprintf("answers %x by payload", spanQuery),
		fmt.Sprintf("sent_by %x by payload", spanQuery),
		fmt.Sprintf("sent_by %x by tcp_option", spanOption),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("packets with data (-want +got):\n%s", diff)
	}
}

// tcpPush is the flag that stands in packets with data here, and in no others; tcpAck
// stands alone in those that only acknowledge.
const tcpPush, tcpAck = 0x08, 0x10

// query sends one query, and one answer.
func query(t *testing.T) {
	t.Helper()
	var server net.Listener
	err := inNS(rightNS, func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(rightIP, fmt.Sprint(portQuery)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	text := fmt.Sprintf("SELECT 1 /*traceparent='00-%s-%016x-01'*/\x00", hex.EncodeToString(appTrace[:]), spanQuery)
	message := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(text))), text...)
	answered := make(chan error, 1)
	go func() {
		conn, err := server.Accept()
		if err == nil {
			defer conn.Close()
			if _, err = io.ReadFull(conn, make([]byte, len(message))); err == nil {
				_, err = conn.Write([]byte("Z\x00\x00\x00\x05I"))
			}
		}
		answered <- err
	}()
	err = inNS(leftNS, func() error {
		conn, err := net.DialTimeout("tcp", server.Addr().String(), nodeWithin)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(nodeWithin)); err != nil {
			return err
		}
		if _, err := conn.Write(message); err != nil {
			return err
		}
		_, err = io.ReadAll(conn)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

// sendWithOption sends a packet of a connection that there is not: only instrumentation
// puts options into those that there are.
func sendWithOption(t *testing.T) {
	t.Helper()
	const ipBytes, tcpBytes = 20, 48
	packet := make([]byte, ipBytes+tcpBytes, ipBytes+tcpBytes+1)
	ip, tcp := packet[:ipBytes], packet[ipBytes:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP // the kernel fills the rest in
	copy(ip[12:], net.ParseIP(leftIP).To4())
	copy(ip[16:], net.ParseIP(rightIP).To4())
	binary.BigEndian.PutUint16(tcp[0:], 40000)
	binary.BigEndian.PutUint16(tcp[2:], portOption)
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	tcp[12], tcp[13] = tcpBytes/4<<4, tcpAck|tcpPush
	tcp[20], tcp[21] = 25, 26
	copy(tcp[22:], appTrace[:])
	tcp[45] = spanOption
	tcp[46], tcp[47] = 1, 1
	packet = append(packet, 'x')
	err := inNS(leftNS, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing is lost with it
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte(ip[16:20])})
	})
	if err != nil {
		t.Fatal(err)
	}
}
