package correlate

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// neededBytes are those of a payload's bytes that were needed to find requests and
// their spans, as a bit for each.
type neededBytes [event.MaxPayloadBytes / 64]uint64

// add adds a range; what lies outside of the payload, in a packet before it, is left out.
func (n *neededBytes) add(from, to int) {
	to = min(to, event.MaxPayloadBytes)
	for i := max(from, 0); i < to; i = (i/64 + 1) * 64 {
		mask := ^uint64(0) << (i % 64)
		if left := to - i/64*64; left < 64 {
			mask &= 1<<left - 1
		}
		n[i/64] |= mask
	}
}

func (n *neededBytes) has(i int) bool {
	return i < event.MaxPayloadBytes && n[i/64]&(1<<(i%64)) != 0
}

// scrubbed stands in the place of a byte that is not needed. Nothing that is
// recognised begins with it.
const scrubbed = 'x'

// Scrub overwrites in data, the bytes of the payload that Note was given last, what
// was not needed to find requests and their spans: targets, other headers, bodies, the
// text of queries. The same calls with all payloads scrubbed give the same.
func (c *Connections) Scrub(data []byte) {
	for i := range data {
		if !c.needed.has(i) {
			data[i] = scrubbed
		}
	}
}
