package filter

import (
	"fmt"
	"strconv"
	"strings"
)

// Mark chooses packets by the skb's mark (skb->mark). The zero value matches
// every packet.
type Mark struct {
	// Value is compared with the masked mark; it has no bits outside Mask.
	Value uint32
	// Mask selects the bits that count.
	Mask uint32
}

// Match reports whether a packet with this mark is chosen.
func (m Mark) Match(mark uint32) bool { return mark&m.Mask == m.Value }

// String returns the form that [ParseMark] reads.
func (m Mark) String() string { return fmt.Sprintf("%#x/%#x", m.Value, m.Mask) }

// ParseMark parses VALUE or VALUE/MASK, each decimal or hexadecimal with 0x.
// Without a mask all 32 bits count.
func ParseMark(s string) (Mark, error) {
	value, mask, masked := strings.Cut(strings.TrimSpace(s), "/")
	m := Mark{Mask: ^uint32(0)}
	var err error
	if m.Value, err = parseUint32(value); err != nil {
		return Mark{}, fmt.Errorf("parse mark %q: value %w", s, err)
	}
	if !masked {
		return m, nil
	}
	if m.Mask, err = parseUint32(mask); err != nil {
		return Mark{}, fmt.Errorf("parse mark %q: mask %w", s, err)
	}
	switch {
	case m.Mask == 0:
		return Mark{}, fmt.Errorf("parse mark %q: mask 0 ignores the mark; leave the filter out", s)
	case m.Value&^m.Mask != 0:
		return Mark{}, fmt.Errorf("parse mark %q: value has bits outside the mask and can never match; widen the mask", s)
	}
	return m, nil
}

// parseUint32 parses a decimal number or a hexadecimal one with 0x. The error
// continues a sentence that names the number.
func parseUint32(s string) (uint32, error) {
	digits, base := s, 10
	if rest, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		digits, base = rest, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number from 0 to 0xffffffff; write it in decimal, or in hexadecimal with 0x", s)
	}
	return uint32(n), nil
}
