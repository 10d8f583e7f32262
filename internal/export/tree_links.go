package export

import (
	"slices"
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// appendLinks appends what a packet has to do with others: "segment of journey
// 1000000000004, merged 2, retransmission 1 of journey …". Where one of them is
// named it is by its number, without leading zeros; several are counted.
func appendLinks(dst []byte, root *spans.Span) []byte {
	var kinds []string
	for i := range root.Links {
		if attrOf(root.Links[i].Attrs, spans.KeyAppSource) != nil {
			continue // see appendApp
		}
		if a := attrOf(root.Links[i].Attrs, spans.KeyLinkKind); a != nil && !slices.Contains(kinds, a.Str) {
			kinds = append(kinds, a.Str)
		}
	}
	for i, kind := range kinds {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendLink(dst, root, kind)
	}
	if a := attr(root, spans.KeyTCPRetransmit); a != nil && !slices.Contains(kinds, kindRetransmission) {
		if len(dst) > 0 {
			dst = append(dst, ", "...)
		}
		dst = strconv.AppendInt(append(dst, "retransmission "...), a.Int, 10)
	}
	return dst
}

const kindRetransmission = "retransmission_of"

// appendLink appends the links of one kind. Kinds whose words say what this packet
// is lead to one other, the rest are counted.
func appendLink(dst []byte, root *spans.Span, kind string) []byte {
	word, direction := kind, ""
	if i := strings.LastIndexByte(kind, '_'); i >= 0 {
		word, direction = kind[:i], kind[i+1:]
	}
	dst = append(dst, word...)
	if a := attr(root, spans.KeyTCPRetransmit); a != nil && kind == kindRetransmission {
		dst = strconv.AppendInt(append(dst, ' '), a.Int, 10)
	}
	count := 0
	for i := range root.Links {
		attrs := root.Links[i].Attrs
		if a := attrOf(attrs, spans.KeyLinkKind); a == nil || a.Str != kind {
			continue
		}
		count++
		if number := attrOf(attrs, spans.KeyJourney); direction != "" && count == 1 && number != nil {
			dst = append(append(append(dst, ' '), direction...), " journey "...)
			dst = strconv.AppendUint(dst, uint64(number.Int), 16)
		}
	}
	if direction == "" {
		dst = strconv.AppendInt(append(dst, ' '), int64(count), 10)
	}
	return dst
}
