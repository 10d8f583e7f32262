package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// modeBits and displacementBits are MODE_BITS and DISPLACEMENT_BITS of
// session.bpf.c.
const (
	modeBits         = 14
	displacementBits = 10
)

// multiplierTries bounds the search. Two functions of which 24 bits of the hash
// are equal make a try fail: with 2,000 functions about one in ten.
const multiplierTries = 256

// Mode says how the session program treats one function.
type Mode struct {
	Arg      int  // 0-based number of the argument register that leads to the skb, below 6
	Indirect bool // the argument is a struct sk_buff **
	NoStart  bool // no journey begins here
	Kin      Kin  // what it does with its skb and others
	Sock     bool // the first argument is the struct sock * that the skb belongs to
	Reads    bool // the current thread gets the packet's data
	// End says how the function ends the tracking of its skb at its entry; 0:
	// it does not.
	End event.EndHow
}

func (m Mode) encode() uint16 {
	v := sessionFunctionMode(m.Arg) & sessionFunctionModeMODE_ARGUMENT
	if m.Indirect {
		v |= sessionFunctionModeMODE_INDIRECT
	}
	if m.NoStart {
		v |= sessionFunctionModeMODE_NO_START
	}
	v |= sessionFunctionMode(m.Kin) << sessionFunctionModeMODE_KIN_SHIFT & sessionFunctionModeMODE_KIN
	if m.Sock {
		v |= sessionFunctionModeMODE_SOCK
	}
	if m.Reads {
		v |= sessionFunctionModeMODE_READS
	}
	v |= sessionFunctionMode(m.End) << sessionFunctionModeMODE_END_SHIFT & sessionFunctionModeMODE_END
	return uint16(v)
}

// SetModes tells the session program, before it is attached, how to treat each
// function, by the address of its entry. Calling it while attached makes hits
// read wrong arguments.
func (o *Objects) SetModes(modes map[uint64]Mode) error {
	encoded := make([]addrMode, 0, len(modes))
	for addr, mode := range modes {
		encoded = append(encoded, addrMode{addr, mode.encode()})
	}
	hash, err := hashModes(encoded)
	if err != nil {
		return err
	}
	return errors.Join(
		o.setVariable("modes", &hash.modes),
		o.setVariable("modes_displacements", &hash.displacements),
		o.setVariable("modes_multiplier", hash.multiplier),
	)
}

func (o *Objects) setVariable(name string, value any) error {
	if err := o.vars[name].Set(value); err != nil {
		return fmt.Errorf("write BPF variable %s: %w", name, err)
	}
	return nil
}

type addrMode struct {
	addr uint64
	mode uint16
}

// modeHash finds the mode of a function; mode_of in session.bpf.c does the same.
type modeHash struct {
	multiplier    uint64
	displacements [1 << displacementBits]uint16
	modes         [1 << modeBits]uint16
	used          [1 << modeBits]bool
}

// split returns where the displacement of a function is, and its index before
// that is applied.
func (h *modeHash) split(addr uint64) (bucket int, index uint16) {
	hash := addr * h.multiplier
	return int(hash >> (64 - displacementBits)), uint16(hash >> 40 & (1<<modeBits - 1))
}

func (h *modeHash) mode(addr uint64) uint16 {
	bucket, index := h.split(addr)
	return h.modes[index^h.displacements[bucket]]
}

// hashModes finds a hash under which functions share an entry only when they
// are treated alike.
func hashModes(functions []addrMode) (*modeHash, error) {
	multiplier := uint64(0x9e3779b97f4a7c15) // 2^64 divided by the golden ratio
	for range multiplierTries {
		hash := &modeHash{multiplier: multiplier}
		if hash.placeAll(functions) {
			return hash, nil
		}
		multiplier = (multiplier*0x5851f42d4c957f2d + 0x14057b7ef767814f) | 1 // Knuth's MMIX
	}
	return nil, errors.New("tell the probed functions apart by their addresses: too many functions, choose fewer with a pattern")
}

// placeAll gives the fullest buckets their displacement first, as long as there
// is room. It reports whether every bucket got one.
func (h *modeHash) placeAll(functions []addrMode) bool {
	buckets := make([][]addrMode, 1<<displacementBits)
	for _, f := range functions {
		bucket, _ := h.split(f.addr)
		buckets[bucket] = append(buckets[bucket], f)
	}
	slices.SortStableFunc(buckets, func(a, b []addrMode) int { return cmp.Compare(len(b), len(a)) })
	for _, members := range buckets {
		if !h.place(members) {
			return false
		}
	}
	return true
}

// place finds a displacement for the functions of one bucket.
func (h *modeHash) place(members []addrMode) bool {
	if len(members) == 0 {
		return true
	}
	bucket, _ := h.split(members[0].addr)
	for displacement := range uint16(1 << modeBits) {
		if h.put(members, displacement) {
			h.displacements[bucket] = displacement
			return true
		}
	}
	return false
}

// put enters the functions of one bucket, or none of them.
func (h *modeHash) put(members []addrMode, displacement uint16) bool {
	var fresh []uint16
	for _, f := range members {
		_, index := h.split(f.addr)
		index ^= displacement
		if !h.used[index] {
			h.used[index], h.modes[index] = true, f.mode
			fresh = append(fresh, index)
			continue
		}
		if h.modes[index] != f.mode {
			for _, i := range fresh {
				h.used[i] = false
			}
			return false
		}
	}
	return true
}
