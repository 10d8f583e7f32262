package filter

import (
	"encoding/binary"
	"slices"
)

// packet is a generated frame.
type packet struct {
	name  string
	frame []byte // from the Ethernet header on
	net   int    // offset of the network header
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func eth(proto uint16, tags ...uint16) []byte {
	h := []byte{0x02, 0, 0, 0, 0, 1, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55}
	for _, vid := range tags {
		h = slices.Concat(h, be16(0x8100), be16(vid))
	}
	return append(h, be16(proto)...)
}

func ipv4(proto byte, src, dst [4]byte, frag uint16, options int, payload []byte) []byte {
	h := make([]byte, 20+options)
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[6:], frag)
	h[8], h[9] = 64, proto
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	return append(h, payload...)
}

func ipv6(next byte, payload []byte) []byte {
	h := make([]byte, 40)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	h[6], h[7] = next, 64
	copy(h[8:], []byte{0x20, 0x01, 0x0d, 0xb8})
	h[23] = 1
	copy(h[24:], []byte{0x20, 0x01, 0x0d, 0xb8})
	h[39] = 2
	return append(h, payload...)
}

func tcp(sport, dport uint16, flags byte, n int) []byte {
	h := slices.Concat(be16(sport), be16(dport), make([]byte, 16+n))
	h[12], h[13] = 0x50, flags
	return h
}

func udp(sport, dport uint16, payload []byte) []byte {
	return slices.Concat(be16(sport), be16(dport), be16(uint16(8+len(payload))), be16(0), payload)
}

// packets returns the frames that filters are compared on, among them every
// one cut short at lengths around its header boundaries.
func packets() []packet {
	a, b := [4]byte{10, 0, 0, 1}, [4]byte{8, 8, 8, 8}
	icmp := []byte{8, 0, 0, 0, 0, 1, 0, 1, 'p', 'i', 'n', 'g'}
	multicast6 := ipv6(17, udp(546, 547, nil))
	multicast6[24] = 0xff
	inner := slices.Concat(eth(0x0800), ipv4(6, b, a, 0, 0, tcp(443, 5000, 0x12, 4)))
	geneve := slices.Concat([]byte{0, 0}, be16(0x6558), []byte{0, 0, 7, 0}, inner)
	vxlan := slices.Concat([]byte{8, 0, 0, 0, 0, 0, 42, 0}, inner)
	whole := []packet{
		{"tcp4 syn", slices.Concat(eth(0x0800), ipv4(6, a, b, 0x4000, 0, tcp(40000, 443, 0x02, 0))), 14},
		{"tcp4 data with options", slices.Concat(eth(0x0800), ipv4(6, b, a, 0, 12, tcp(443, 40000, 0x18, 100))), 14},
		{"tcp4 ssh", slices.Concat(eth(0x0800), ipv4(6, a, b, 0, 0, tcp(22, 40000, 0x11, 1500))), 14},
		{"udp4 dns", slices.Concat(eth(0x0800), ipv4(17, a, b, 0, 0, udp(5353, 53, []byte("query")))), 14},
		{"udp4 first fragment", slices.Concat(eth(0x0800), ipv4(17, a, b, 0x2000, 0, udp(5353, 53, make([]byte, 64)))), 14},
		{"udp4 last fragment", slices.Concat(eth(0x0800), ipv4(17, a, b, 0x00b9, 0, udp(5353, 53, make([]byte, 64)))), 14},
		{"icmp4 echo", slices.Concat(eth(0x0800), ipv4(1, a, b, 0, 0, icmp)), 14},
		{"sctp4", slices.Concat(eth(0x0800), ipv4(132, a, b, 0, 0, tcp(36412, 36412, 0, 0))), 14},
		{"gre4", slices.Concat(eth(0x0800), ipv4(47, a, b, 0, 0, []byte{0, 0, 8, 0})), 14},
		{"geneve", slices.Concat(eth(0x0800), ipv4(17, a, b, 0, 0, udp(1, 6081, geneve))), 14},
		{"vxlan", slices.Concat(eth(0x0800), ipv4(17, a, b, 0, 0, udp(1, 4789, vxlan))), 14},
		{"tcp6", slices.Concat(eth(0x86dd), ipv6(6, tcp(40000, 443, 0x02, 8))), 14},
		{"udp6", slices.Concat(eth(0x86dd), ipv6(17, udp(5353, 53, []byte("query")))), 14},
		{"multicast udp6", slices.Concat(eth(0x86dd), multicast6), 14},
		{"icmp6 echo", slices.Concat(eth(0x86dd), ipv6(58, append([]byte{128, 0}, icmp[2:]...))), 14},
		{"icmp6 fragment", slices.Concat(eth(0x86dd), ipv6(44, append([]byte{58, 0, 0, 1, 0, 0, 0, 9, 128, 0}, icmp...))), 14},
		{"vlan tcp4", slices.Concat(eth(0x0800, 5), ipv4(6, a, b, 0, 0, tcp(1, 80, 0x10, 0))), 18},
		{"qinq udp6", slices.Concat(eth(0x86dd, 5, 7), ipv6(17, udp(9, 53, nil))), 22},
		{"arp", slices.Concat(eth(0x0806), be16(1), be16(0x0800), []byte{6, 4}, be16(1), make([]byte, 6), a[:], make([]byte, 6), b[:]), 14},
		{"lldp", slices.Concat(eth(0x88cc), make([]byte, 40)), 14},
		{"mpls", slices.Concat(eth(0x8847), []byte{0, 1, 0x41, 64}, ipv4(6, a, b, 0, 0, tcp(1, 80, 0x10, 0))), 14},
		{"broadcast", slices.Concat(slices.Repeat([]byte{0xff}, 6), eth(0x0800)[6:], ipv4(17, a, [4]byte{255, 255, 255, 255}, 0, 0, udp(68, 67, make([]byte, 240)))), 14},
		{"all ones", slices.Repeat([]byte{0xff}, 90), 14},
		{"zeros", make([]byte, 60), 14},
	}
	all := slices.Clone(whole)
	for _, p := range whole {
		for _, n := range []int{0, 1, 13, p.net, p.net + 1, p.net + 9, p.net + 19, p.net + 23, p.net + 33, p.net + 41} {
			if n < len(p.frame) {
				all = append(all, packet{p.name + " cut", p.frame[:n:n], min(p.net, n)})
			}
		}
	}
	return all
}

// from returns the bytes that a filter of a layer sees.
func (p packet) from(l Layer) []byte {
	if l == L2 {
		return p.frame
	}
	return p.frame[p.net:]
}

// expressions are the pcap expressions that translations are compared for;
// each is valid for Ethernet.
func expressions() []string {
	return []string{
		"", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "not tcp",
		"host 8.8.8.8", "src host 10.0.0.1", "dst net 8.8.0.0/16", "net 10", "host 2001:db8::1",
		"src net 2001:db8::/32", "host 10.0.0.1 and not port 22", "tcp port 443", "udp dst port 53",
		"portrange 20-100", "port 53 or port 67 or port 68 or port 443", "ip proto 47", "ip6 proto 44",
		"ether host 00:11:22:33:44:55", "ether proto 0x88cc", "ether broadcast", "ether multicast",
		"vlan", "vlan 5", "vlan 5 and tcp port 80", "vlan and vlan and udp", "mpls", "geneve", "geneve and tcp",
		"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[tcpflags] == tcp-syn", "icmp[icmptype] == icmp-echo",
		"ip[6:2] & 0x1fff != 0", "ip[0] & 0xf > 5", "ip[2:2] - ((ip[0]&0xf)<<2) > 40", "ip[8] * 3 == 192",
		"ip[2:2] / (ip[8] - 60) > 9", "ip[2:2] % 7 == 3", "ip[8] ^ 0x40 == 0", "ip[12:4] >> (ip[9] & 7) != 0",
		"len > 100", "greater 500", "less 60", "len - 14 < ip[2:2]", "ip6[40] == 128",
		"udp[8:4] == 0x71756572", "(tcp or udp) and ((src port 443 and dst host 10.0.0.1) or dst port 53)",
		"ether[12:2] > 0x7ff", "ether[40000] == 1", "ether[20000:4] == 1", "ip multicast", "ip6 multicast", "tcp[100] == 0",
	}
}
