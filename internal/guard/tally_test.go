package guard

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// A tally counts what a map counts, also when it has to grow.
func TestTally(t *testing.T) {
	const functions = 300
	small := newTally(4)
	for range 2 {
		want := map[uint64]uint64{}
		for n := range uint64(10_000) {
			function := busy + n*n%functions*16
			want[function]++
			small.add(function, 1)
		}
		var expected []place
		for function, frames := range want {
			expected = append(expected, place{function, frames})
		}
		got := small.counted()
		byFunction := func(x, y place) int { return cmp.Compare(x.function, y.function) }
		slices.SortFunc(expected, byFunction)
		slices.SortFunc(got, byFunction)
		if diff := gocmp.Diff(expected, got, gocmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		small.reset()
		if left := small.counted(); len(left) > 0 {
			t.Errorf("%d functions are counted after it began anew", len(left))
		}
	}
}
