package bpf

import (
	"encoding/binary"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// AF_INET and AF_INET6 of Linux, on whatever machine a recording is replayed.
const (
	familyIPv4 = 2
	familyIPv6 = 10
)

func decodeConntrack(raw *[conntrackRecordBytes]byte, c *event.Conntrack) {
	*c = event.Conntrack{
		Info:     event.ConntrackInfo(raw[1]),
		CPU:      u16(raw[2:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Status:   event.ConntrackStatus(u32(raw[32:])),
		Mark:     u32(raw[36:]),
		Zone:     u16(raw[40:]),
		TCPState: raw[42],
		Family:   familyOf(u16(raw[48+18:])),
		Protocol: raw[48+38],
		Original: decodeTuple(raw[48:88]),
		Reply:    decodeTuple(raw[88:128]),
	}
}

// decodeTuple reads a struct conntrack_tuple, whose ports are in network order.
func decodeTuple(raw []byte) event.Tuple {
	return event.Tuple{
		Source:          [16]byte(raw[0:16]),
		SourcePort:      binary.BigEndian.Uint16(raw[16:]),
		Destination:     [16]byte(raw[20:36]),
		DestinationPort: binary.BigEndian.Uint16(raw[36:]),
	}
}

func familyOf(af uint16) uint8 {
	switch af {
	case familyIPv4:
		return 4
	case familyIPv6:
		return 6
	default:
		return 0
	}
}

func decodeRule(raw *[ruleRecordBytes]byte, r *event.Rule) {
	*r = event.Rule{
		What:     event.RuleWhat(raw[1]),
		CPU:      u16(raw[2:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Handle:   u64(raw[32:]),
		Family:   raw[40],
		Hook:     raw[41],
		Table:    [64]byte(raw[48:112]),
		Chain:    [64]byte(raw[112:176]),
	}
}
