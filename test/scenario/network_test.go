//go:build vm

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test network: two namespaces joined by a veth pair with two queues each.
//
//	left  vleft  10.9.0.1 fd09::1 ── 10.9.0.2 fd09::2 vright  right
const (
	leftNS, rightNS   = "left", "right"
	leftIf, rightIf   = "vleft", "vright"
	leftIP, rightIP   = "10.9.0.1", "10.9.0.2"
	leftIP6, rightIP6 = "fd09::1", "fd09::2"
	hostIP            = "10.0.2.2" // behind the virtio NIC
	guestIP           = "10.0.2.15"
	loopbackIP        = "127.0.0.1"
)

const (
	portTCP     = 7000 // echo, in right
	portUDP6    = 7001 // echo, in right
	portLoop    = 7010 // echo, on loopback of the first namespace
	portClosed  = 9998 // nothing listens, in right
	portRefused = 9999 // an nftables rule drops it, in right
)

const networkScript = `
set -e
modprobe -a veth nf_tables
ip netns add left
ip netns add right
ip link add vleft netns left numtxqueues 2 numrxqueues 2 type veth peer name vright netns right numtxqueues 2 numrxqueues 2
for ns in left right; do
	# No solicitations of its own: each packet here is one that a test sent.
	ip netns exec $ns sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitations
		echo 0 >/proc/sys/net/ipv6/conf/v'$ns'/router_solicitations
		echo 3 >/sys/class/net/v'$ns'/queues/tx-0/xps_cpus'
	ip -n $ns link set lo up
	ip -n $ns link set v$ns up
done
ip -n left addr add 10.9.0.1/24 dev vleft
ip -n left addr add fd09::1/64 dev vleft nodad
ip -n right addr add 10.9.0.2/24 dev vright
ip -n right addr add fd09::2/64 dev vright nodad
ip netns exec right nft 'table inet scenario { chain in {
	type filter hook input priority 0; udp dport 9999 drop; }; }'
nft 'table inet scenario { chain out { type filter hook output priority 0; counter; }
	chain post { type filter hook postrouting priority 0; counter; }; }'
# Each neighbour is known before a test looks at packets.
ip netns exec left ping -q -c 1 -W 5 10.9.0.2
ip netns exec left ping -q -c 1 -W 5 fd09::2
ping -q -c 1 -W 5 10.0.2.2
`

func setUpNetwork() error {
	if _, err := command("sh", "-c", networkScript); err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	return nil
}

// inNS runs f on a thread that is in a network namespace of `ip netns`, "" for
// the first. Sockets stay in the namespace in which they were made.
func inNS(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		if name != "" {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := enterNS(name); err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	return <-done
}

func enterNS(name string) error {
	ns, err := os.Open("/run/netns/" + name)
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

// inodeOf is the number that the kernel and the spans call a namespace by.
func inodeOf(t *testing.T, name string) int64 {
	t.Helper()
	path := "/proc/self/ns/net"
	if name != "" {
		path = "/run/netns/" + name
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Ino)
}

// ping sends count requests from a namespace, each answered before the next.
func ping(t *testing.T, ns, address string, count int, more ...string) {
	t.Helper()
	args := []string{"ping", "-q", "-c", strconv.Itoa(count), "-i", "0.05", "-W", "5"}
	if ns != "" {
		args = append([]string{"ip", "netns", "exec", ns}, args...)
	}
	must(t, append(append(args, more...), address)...)
}

// exchange connects from one namespace to a server in another, sends size bytes
// and reads as many back. Both sides are closed when it returns.
func exchange(t *testing.T, clientNS, serverNS, address string, size int) {
	t.Helper()
	var server net.Listener
	listen := func() (err error) {
		server, err = net.Listen("tcp", address)
		return err
	}
	if err := inNS(serverNS, listen); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	served := make(chan error, 1)
	go func() { served <- echoOnce(server) }()
	if err := inNS(clientNS, func() error { return talk(server.Addr().String(), size) }); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func echoOnce(server net.Listener) error {
	conn, err := server.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

func talk(address string, size int) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(strings.Repeat("x", size))); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(conn)
	if err == nil && len(back) != size {
		err = fmt.Errorf("echo of %d bytes has %d", size, len(back))
	}
	return err
}

// datagrams sends count datagrams from left to address with a mark (0: none)
// and, when answer is set, has a server in right send each back.
func datagrams(t *testing.T, network, address string, count, mark int, answer bool) {
	t.Helper()
	if answer {
		server := udpEcho(t, network, address)
		defer server.Close()
	}
	err := inNS(leftNS, func() error {
		conn, err := dialMarked(network, address, mark)
		if err != nil {
			return err
		}
		defer conn.Close()
		for i := range count {
			// An answer of ICMP to an earlier one is an error of this one.
			if _, err := conn.Write([]byte("datagram " + strconv.Itoa(i))); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
			if !answer {
				continue
			}
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dialMarked(network, address string, mark int) (net.Conn, error) {
	d := net.Dialer{}
	if mark != 0 {
		d.Control = markWith(mark)
	}
	return d.DialContext(context.Background(), network, address)
}

func udpEcho(t *testing.T, network, address string) net.PacketConn {
	t.Helper()
	var server net.PacketConn
	err := inNS(rightNS, func() (err error) {
		server, err = net.ListenPacket(network, address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if _, err := server.WriteTo(buf[:n], from); err != nil {
				return
			}
		}
	}()
	return server
}
