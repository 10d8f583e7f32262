package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBudget(t *testing.T) {
	// Of 4 a second each takes a quarter of one.
	for _, c := range []struct {
		name  string
		times []uint64 // CLOCK_MONOTONIC milliseconds
		want  []bool
	}{
		{"a second's worth at once", []uint64{9000, 9000, 9000, 9000, 9000}, []bool{true, true, true, true, false}},
		{"then as fast as it comes in", []uint64{9000, 9000, 9000, 9000, 9249, 9250, 9251, 9500}, []bool{true, true, true, true, false, true, false, true}},
		{"nothing is saved for longer", []uint64{9000, 99000, 99000, 99000, 99000, 99000}, []bool{true, true, true, true, true, false}},
		{
			"time that goes back and forth gives no more",
			[]uint64{9000, 9000, 9000, 9000, 5000, 9000, 5000, 9000, 9250},
			[]bool{true, true, true, true, false, false, false, false, true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBudget(4)
			var got []bool
			for _, ms := range c.times {
				got = append(got, b.Take(ms*1_000_000))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
