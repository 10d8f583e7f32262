package spans

import (
	"bytes"
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// fieldBytes returns the bytes of field i, false when it could not be read.
func fieldBytes(f *event.SkbField, i int, values *event.Fields) ([]byte, bool) {
	from, to := int(f.At), int(f.At)+int(f.Bytes)
	if i >= 16 || values.Valid>>i&1 == 0 || to > int(values.Bytes) || to > len(values.Data) {
		return nil, false
	}
	return values.Data[from:to], true
}

// sameField says whether field i has the same value in both.
func sameField(f *event.SkbField, i int, a, b *event.Fields) bool {
	rawA, okA := fieldBytes(f, i, a)
	rawB, okB := fieldBytes(f, i, b)
	if f.Bits == 0 || !okA || !okB {
		return okA == okB && bytes.Equal(rawA, rawB)
	}
	return number(f, rawA) == number(f, rawB) // its neighbours may differ
}

// number reads a little-endian number of up to eight bytes, or the bits of it
// that are the field's.
func number(f *event.SkbField, raw []byte) uint64 {
	var v uint64
	for i := min(len(raw), 8) - 1; i >= 0; i-- {
		v = v<<8 | uint64(raw[i])
	}
	if f.Bits == 0 || f.Bits >= 64 {
		return v
	}
	return v >> f.Shift & (1<<f.Bits - 1)
}

// signed extends the sign of a number of that field.
func signed(f *event.SkbField, v uint64) int64 {
	bits := uint(f.Bits)
	if bits == 0 {
		bits = 8 * uint(f.Bytes)
	}
	if bits == 0 || bits >= 64 {
		return int64(v)
	}
	return int64(v<<(64-bits)) >> (64 - bits)
}

// pointerText writes an address as skbs' are written: hashed, or as it is.
func pointerText(v uint64, hash func(uint64) uint64) string {
	if v == 0 {
		return "0x0"
	}
	return "0x" + strconv.FormatUint(hash(v), 16)
}
