//go:build vm

package scenario

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	portKept      = 9997
	keptQueue     = 5
	keptProtocol  = 253 // for experiments (RFC 3692)
	keptFunctions = "ip_rcv|ip_local_deliver|nf_hook_slow|nf_queue|ipv4_conntrack_defrag"
)

// stolenBy is the function that says it keeps a fragment: 5.10 does not describe the
// functions of nf_defrag_ipv4.
var stolenBy = map[string]string{
	"5.10": "", "6.1": "ipv4_conntrack_defrag", "6.12": "ipv4_conntrack_defrag", "7.3": "ipv4_conntrack_defrag",
}

// TestKept sends a datagram to a program that gives no verdict on it, and a fragment
// whose others never come through functions that do not show where it waits.
func TestKept(t *testing.T) {
	// Before the start: later modules are not probed.
	must(t, "modprobe", "-a", "nfnetlink_queue", "nft_queue", "nft_ct", "nf_defrag_ipv4")
	must(t, "ip", "netns", "exec", rightNS, "nft", fmt.Sprintf(`table ip kept {
		chain pre { type filter hook prerouting priority 0; ct state new counter; };
		chain in { type filter hook input priority 1; udp dport %d queue num %d; }; }`, portKept, keptQueue))
	t.Cleanup(func() { must(t, "ip", "netns", "exec", rightNS, "nft", "delete table ip kept") })
	holdQueue(t, rightNS)
	tr := start(t, "--filter-func", keptFunctions, fmt.Sprintf("udp dst port %d or ip proto %d", portKept, keptProtocol))
	datagrams(t, "udp", net.JoinHostPort(rightIP, strconv.Itoa(portKept)), 1, 0, false)
	if err := inNS(leftNS, sendLastFragment); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settle)
	o := tr.signal(t, syscall.SIGTERM)
	if o.exit != 0 || o.summary.Tracker["unfinished"] != 2 {
		t.Errorf("exit status %d and %d unfinished journeys, want 0 and 2\n%s", o.exit, o.summary.Tracker["unfinished"], o.stderr)
	}
	all := readJourneys(t, o.output())
	checkKept(t, port(all, portKept), "queued", "nf_queue")
	fragments := where(all, func(j *journey) bool { return j.root.number("destination.port") != portKept })
	if by := stolenBy[series(t)]; by == "" {
		checkKept(t, fragments, "unfinished", "")
	} else {
		checkKept(t, fragments, "stolen", by)
	}
}

func checkKept(t *testing.T, found []*journey, end, by string) {
	t.Helper()
	if len(found) != 1 {
		t.Fatalf("%d journeys with end %s, want 1: %v", len(found), end, found)
	}
	if root := found[0].root; root.text(keyEnd) != end || root.text("otel_kprobe.end.function") != by {
		t.Errorf("end %q by %q, want %q by %q\n%s", root.text(keyEnd), root.text("otel_kprobe.end.function"), end, by, found[0])
	}
}

// sendLastFragment sends the last fragment of a packet alone. When time is up
// nobody is told of it: that is done for a first fragment only.
func sendLastFragment() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	packet := make([]byte, 28)
	packet[0], packet[8], packet[9] = 0x45, 64, keptProtocol
	binary.BigEndian.PutUint16(packet[4:], 77)     // id; the kernel fills in length and checksum
	binary.BigEndian.PutUint16(packet[6:], 1480/8) // offset, no more fragments
	to := unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(rightIP).To4())}
	copy(packet[16:], to.Addr[:])
	return unix.Sendto(fd, packet, 0, &to)
}

// holdQueue binds to a queue of NFQUEUE and never answers, until the test is over.
func holdQueue(t *testing.T, ns string) {
	t.Helper()
	err := inNS(ns, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) }) // which drops what the queue holds
		// linux/netfilter/nfnetlink_queue.h: NFQA_CFG_CMD with NFQNL_CFG_CMD_BIND, and
		// NFQA_CFG_PARAMS with 64 KiB and NFQNL_COPY_META.
		for _, attribute := range [][]byte{{8, 0, 1, 0, 1, 0, 0, 0}, {9, 0, 2, 0, 0, 1, 0, 0, 1, 0, 0, 0}} {
			if err := configureQueue(fd, attribute); err != nil {
				return fmt.Errorf("bind to queue %d: %w", keptQueue, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// configureQueue sends one NFQNL_MSG_CONFIG and waits for its acknowledgement.
func configureQueue(fd int, attribute []byte) error {
	const header, configMessage = unix.SizeofNlMsghdr + 4, unix.NFNL_SUBSYS_QUEUE<<8 | 2
	message := make([]byte, header, header+len(attribute))
	binary.NativeEndian.PutUint32(message, uint32(header+len(attribute)))
	binary.NativeEndian.PutUint16(message[4:], configMessage)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	binary.BigEndian.PutUint16(message[unix.SizeofNlMsghdr+2:], keptQueue)
	if err := unix.Sendto(fd, append(message, attribute...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("answer of %d bytes", n)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}
