// Package filter turns what a user writes to choose packets into what the
// kernel programs execute or compare: a pcap expression into eBPF, a mark and
// a network namespace into plain values.
//
// A pcap expression is compiled by libpcap into classic BPF, once for packets
// that still have (or already have) their Ethernet header and once for packets
// that start at the network header, and then translated here into the bodies
// of two eBPF subprograms. See [Program.Instructions] for their contract and
// [Inject] for how they reach a program.
//
// What an expression sees is packet bytes only. A VLAN tag that the kernel
// keeps in the skb instead of the frame is not one of them, so "vlan" matches
// only frames that carry their tag inline.
package filter

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// ErrNoPcap is wrapped by the error of [Compile] in a build without libpcap.
var ErrNoPcap = errors.New("this build lacks libpcap and so pcap expressions; " +
	"build with CGO_ENABLED=1 and the libpcap development package installed")

// errAncillary and errLoop reject programs that libpcap can produce but that a
// filter over packet bytes cannot execute.
var (
	errAncillary = errors.New("the expression asks for capture metadata (such as inbound, outbound or " +
		"ifindex) that packet bytes do not hold; remove that term")
	errLoop = errors.New("protochain needs a loop, which a filter in the kernel cannot have; " +
		"name the protocol and header offset instead")
)

// Layer says at which header the bytes that a filter sees begin.
type Layer uint8

const (
	// L2 starts at the Ethernet header.
	L2 Layer = iota
	// L3 starts at the IPv4 or IPv6 header.
	L3
)

// String returns "l2" or "l3".
func (l Layer) String() string {
	if l == L2 {
		return "l2"
	}
	return "l3"
}

// Program is a compiled pcap expression: one classic BPF program per layer.
// The zero value matches every packet. It is immutable once compiled and safe
// for concurrent use.
type Program struct {
	// Expression is the source text, trimmed; empty matches every packet.
	Expression string
	// L2 is the classic program for bytes that start at the Ethernet header;
	// empty matches every packet.
	L2 []bpf.RawInstruction
	// L3 is the classic program for bytes that start at the network header;
	// empty matches every packet.
	L3 []bpf.RawInstruction
	// L3Rejected is libpcap's reason why no packet without an Ethernet header
	// can match (as with "ether host", "vlan" and "arp"). L3 then rejects
	// everything. It is empty when the expression applies to both layers.
	L3Rejected string
}

// MatchesAll reports whether p has no expression and so matches every packet.
func (p *Program) MatchesAll() bool { return len(p.L2) == 0 && len(p.L3) == 0 }

// classic returns the classic program of a layer.
func (p *Program) classic(l Layer) []bpf.RawInstruction {
	if l == L2 {
		return p.L2
	}
	return p.L3
}

// Compile compiles a pcap expression, see pcap-filter(7). An empty expression
// matches every packet and needs no libpcap.
//
// The expression must be valid for Ethernet; where it cannot match a packet
// without an Ethernet header, the L3 program rejects everything and
// [Program.L3Rejected] says why. That holds for the whole expression: "vlan or
// tcp" matches nothing at L3. Host names in an expression are looked up by the
// C library while compiling.
//
// The error carries libpcap's message unchanged, and wraps [ErrNoPcap] in a
// build without libpcap. Compile is safe for concurrent use.
func Compile(expr string) (*Program, error) {
	expr = strings.TrimSpace(expr)
	if expr == "" {
		return &Program{}, nil
	}
	if strings.ContainsRune(expr, 0) {
		return nil, fmt.Errorf("compile filter %q: expression contains a NUL byte; remove it", expr)
	}

	l2, err := compileLayer(expr, L2)
	if err != nil {
		return nil, fmt.Errorf("compile filter %q: %w", expr, err)
	}
	p := &Program{Expression: expr, L2: l2}
	if p.L3, err = compileLayer(expr, L3); err != nil {
		p.L3 = rejectAll()
		p.L3Rejected = err.Error()
	}
	return p, nil
}

// compileLayer compiles expr for one layer and checks that it can be
// translated.
func compileLayer(expr string, l Layer) ([]bpf.RawInstruction, error) {
	raw, err := pcapCompile(expr, l)
	if err != nil {
		return nil, err
	}
	if _, err := analyse(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// rejectAll returns the classic program that matches no packet.
func rejectAll() []bpf.RawInstruction {
	return []bpf.RawInstruction{{Op: opRetK}}
}
