package correlate

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestNeededBytes(t *testing.T) {
	for _, r := range []struct{ from, to int }{
		{0, 0}, {0, 1}, {63, 64}, {63, 65}, {64, 128}, {5, 200}, {-9, 3}, {-9, -3}, {1020, 2000}, {2000, 3000}, {10, 5}, {0, 1024},
	} {
		var n neededBytes
		n.add(r.from, r.to)
		for i := range event.MaxPayloadBytes + 10 {
			if want := r.from <= i && i < r.to && i < event.MaxPayloadBytes; n.has(i) != want {
				t.Fatalf("%v: byte %d: %v", r, i, !want)
			}
		}
	}
}
