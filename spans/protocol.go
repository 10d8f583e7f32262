package spans

import (
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// EtherTypes with names of their own
// (https://www.iana.org/assignments/ieee-802-numbers).
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
)

// IANA protocol numbers (https://www.iana.org/assignments/protocol-numbers).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// protocolName names what a packet carries; it has few values, so that it can
// be part of a span name.
func protocolName(f *event.Facts) string {
	if f == nil {
		return ""
	}
	if f.Flags&event.FactsTuple == 0 || f.Family == 0 {
		switch f.EtherType {
		case 0:
			return ""
		case etherTypeARP:
			return "arp"
		case etherTypeIPv4:
			return "ipv4"
		case etherTypeIPv6:
			return "ipv6"
		default:
			return "ethertype 0x" + pad4(f.EtherType)
		}
	}
	if name := ipProtocolName(f.Protocol); name != "" {
		return name
	}
	return "ip proto " + strconv.Itoa(int(f.Protocol))
}

func ipProtocolName(p uint8) string {
	switch p {
	case protoICMP:
		return "icmp"
	case 2:
		return "igmp"
	case 4:
		return "ipip"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case 33:
		return "dccp"
	case 41:
		return "ipv6-in-ip"
	case 47:
		return "gre"
	case 50:
		return "esp"
	case 51:
		return "ah"
	case protoICMPv6:
		return "icmpv6"
	case 89:
		return "ospf"
	case 103:
		return "pim"
	case 112:
		return "vrrp"
	case protoSCTP:
		return "sctp"
	case 136:
		return "udplite"
	default:
		return ""
	}
}

func pad4(v uint16) string {
	s := strconv.FormatUint(uint64(v), 16)
	return "0000"[len(s):] + s
}

// networkType is the value of network.type, "" for neither IPv4 nor IPv6.
func networkType(f *event.Facts) string {
	switch f.Family {
	case 4:
		return "ipv4"
	case 6:
		return "ipv6"
	default:
		return ""
	}
}

// transport is the value of network.transport, "" for a protocol without ports.
func transport(f *event.Facts) string {
	if f.Flags&event.FactsTuple == 0 {
		return ""
	}
	switch f.Protocol {
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoSCTP:
		return "sctp"
	default:
		return ""
	}
}
