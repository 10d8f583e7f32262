package event

// ConntrackInfo is the kernel's enum ip_conntrack_info: what a packet is to its
// connection.
type ConntrackInfo uint8

// The values of enum ip_conntrack_info (include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	ConntrackEstablished      ConntrackInfo = 0
	ConntrackRelated          ConntrackInfo = 1
	ConntrackNew              ConntrackInfo = 2
	ConntrackEstablishedReply ConntrackInfo = 3
	ConntrackRelatedReply     ConntrackInfo = 4
	ConntrackUntracked        ConntrackInfo = 7
)

// ConntrackStatus are bits of the kernel's enum ip_conntrack_status.
type ConntrackStatus uint32

// The bits that the kernel side reports.
const (
	ConntrackExpected  ConntrackStatus = 1 << 0
	ConntrackSeenReply ConntrackStatus = 1 << 1
	ConntrackAssured   ConntrackStatus = 1 << 2
	ConntrackConfirmed ConntrackStatus = 1 << 3
	ConntrackSNAT      ConntrackStatus = 1 << 4
	ConntrackDNAT      ConntrackStatus = 1 << 5
	ConntrackDying     ConntrackStatus = 1 << 9
	ConntrackOffload   ConntrackStatus = 1 << 14
)

// Tuple is one direction of a connection. IPv4 is in the first four bytes of an
// address; ports are in host order, of ICMP the source's is the echo identifier.
type Tuple struct {
	Source, Destination         [16]byte
	SourcePort, DestinationPort uint16
}

// Conntrack is the connection that a tracked skb belongs to. It is sent when the
// skb is first seen with one, and again when its Status changes.
type Conntrack struct {
	Journey  uint64
	Skb      uint64
	AtMonoNs uint64
	Status   ConntrackStatus
	Mark     uint32
	Zone     uint16
	CPU      uint16
	Info     ConntrackInfo
	Family   uint8 // of the tuples: 4, 6, or 0 when they are not known (untracked)
	Protocol uint8 // IANA number
	TCPState uint8 // enum tcp_conntrack, of TCP
	Original Tuple // as the first packet of the connection came
	Reply    Tuple // as answers come: differs from Original, turned round, by address translation
}

// RuleWhat says what Rule tells. Its numbers are those of bpf/records.h.
type RuleWhat uint8

const (
	// RuleDrops says that this rule of nftables decided to drop the skb.
	RuleDrops RuleWhat = 1
	// RulePolicy and those that follow are sent when an skb was dropped, for
	// whatever cause, after it had gone through rules. This one says that the
	// chain was the last, and that its policy is to drop.
	RulePolicy RuleWhat = 2
	// RuleSuspect says that this rule, whose verdict was not seen, was the last
	// in a chain whose policy does not drop.
	RuleSuspect RuleWhat = 3
	// RuleUnknown says that the chain alone is known.
	RuleUnknown RuleWhat = 4
	// RuleTable says that the last was this table of iptables-legacy.
	RuleTable RuleWhat = 5
)

// Rule is what a packet filter did with an skb that was dropped.
type Rule struct {
	Journey  uint64
	Skb      uint64
	AtMonoNs uint64
	Handle   uint64 // of the rule, unique in its table; 0 unknown
	CPU      uint16
	What     RuleWhat
	Family   uint8    // NFPROTO_…: 1 inet, 2 ip, 3 arp, 5 netdev, 7 bridge, 10 ip6
	Hook     uint8    // of the base chain or table, numbered within the family
	Table    [64]byte // NUL-terminated, cut to 63 bytes
	Chain    [64]byte // of the rule, else the base chain; empty with RuleTable
}
