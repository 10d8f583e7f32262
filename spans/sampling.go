package spans

import (
	"math/bits"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Sampling says why a trace was kept: its Randomness is no less than the Threshold,
// both of 56 bits. So it stands for 2^56 / (2^56 − Threshold) of its kind
// (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
// The zero value is that of a trace that no sampler decided on.
type Sampling struct{ Threshold, Randomness uint64 }

// samplingDigits are those of 56 bits in hexadecimal.
const samplingDigits = 14

// AppendTraceState appends the spans' trace state: "ot=th:c;rv:89abcdef012345".
// Nothing where no sampler decided.
func (s Sampling) AppendTraceState(dst []byte) []byte {
	if s == (Sampling{}) {
		return dst
	}
	dst = append(dst, "ot=th:"...)
	digits := max(1, samplingDigits-bits.TrailingZeros64(s.Threshold|1<<(4*samplingDigits))/4)
	dst = appendDigits(dst, s.Threshold, digits)
	return appendDigits(append(dst, ";rv:"...), s.Randomness, samplingDigits)
}

// appendDigits appends the first digits of a number of samplingDigits.
func appendDigits(dst []byte, v uint64, n int) []byte {
	for i := range n {
		dst = append(dst, hexDigits[v>>(4*(samplingDigits-1-i))&15])
	}
	return dst
}

// samplingOf is that of a packet: its facts tell its randomness, unless they are lost.
func samplingOf(threshold uint64, facts []event.Facts) Sampling {
	for i := range facts {
		if r := facts[i].Randomness; r != 0 {
			return Sampling{Threshold: threshold, Randomness: r}
		}
	}
	return Sampling{}
}

// samplingOfBlock is that of a request, or bio, with all that it caused. One whose
// cause is missing was kept with that, of which too little is known.
func samplingOfBlock(threshold uint64, b *event.Block) Sampling {
	if threshold == 0 || b.Parent != 0 {
		return Sampling{}
	}
	return Sampling{Threshold: threshold, Randomness: b.Randomness()}
}
