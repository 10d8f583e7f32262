package guard

import "math/bits"

// tally counts by function, for which a Go map would take several times as long: each
// frame is counted. A table with open addressing; a place whose function is 0 is free.
type tally struct {
	places []place // a power of two
	used   int
}

type place struct{ function, frames uint64 }

// tallyPlaces are enough for the functions with an skb that a kernel has.
const tallyPlaces = 4096

func newTally(places int) tally { return tally{places: make([]place, places)} }

// add counts more frames of a function.
func (t *tally) add(function, frames uint64) {
	// Fibonacci hashing: the upper bits depend on all of the address.
	for i := int(function * 0x9e3779b97f4a7c15 >> (65 - bits.Len(uint(len(t.places))))); ; i++ {
		p := &t.places[i&(len(t.places)-1)]
		if p.function == function {
			p.frames += frames
			return
		}
		if p.function == 0 {
			*p = place{function, frames}
			break
		}
	}
	if t.used++; t.used > len(t.places)/2 {
		larger := newTally(2 * len(t.places))
		for _, p := range t.places {
			if p.function != 0 {
				larger.add(p.function, p.frames)
			}
		}
		*t = larger
	}
}

// counted gives the functions that were counted.
func (t *tally) counted() []place {
	var counted []place
	for _, p := range t.places {
		if p.frames > 0 {
			counted = append(counted, p)
		}
	}
	return counted
}

// reset begins anew.
func (t *tally) reset() {
	clear(t.places)
	t.used = 0
}
