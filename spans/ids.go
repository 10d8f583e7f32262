package spans

import (
	"crypto/sha256"
	"encoding/binary"
)

// ids makes the ids of traces and spans and hides kernel addresses. All follow
// from the seed, so a recording gives the same ids again.
type ids struct {
	k0, k1     uint64
	addressKey [16]byte
	// addresses remembers hashes: slabs give the same few addresses again and
	// again, and a hash costs more than the rest of a span.
	addresses map[uint64]uint64
}

func newIDs(seed [16]byte) ids {
	// Separate keys, because ids are published and would say something about
	// a key that they share with the hash of addresses.
	a := sha256.Sum256(append([]byte("ids:"), seed[:]...))
	b := sha256.Sum256(append([]byte("addresses:"), seed[:]...))
	return ids{
		k0:         binary.LittleEndian.Uint64(a[:8]),
		k1:         binary.LittleEndian.Uint64(a[8:16]),
		addressKey: [16]byte(b[:16]),
		addresses:  map[uint64]uint64{},
	}
}

// trace returns the id of a journey's trace and the base of its span ids.
func (d *ids) trace(journey uint64) (id [16]byte, base uint64) {
	hi := mix(mix(journey^d.k0) + d.k1)
	lo := mix(hi ^ d.k1 ^ journey)
	if hi|lo == 0 {
		lo = 1
	}
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id, mix(lo ^ d.k0)
}

// part is trace for a part of a journey that is a trace of its own; part 0 is the
// journey's.
func (d *ids) part(journey uint64, part int) (id [16]byte, base uint64) {
	if part == 0 {
		return d.trace(journey)
	}
	// Another 64-bit number that no journey has but by a chance of 2^-64.
	return d.trace(mix(journey+d.k1) + uint64(part)*0x9e3779b97f4a7c15)
}

// spanID returns the id of the span at an index: never zero, and different for
// every index of one trace.
func spanID(base uint64, index int) (id [8]byte) {
	const golden = 0x9e3779b97f4a7c15
	// mix is a bijection, so only one index can give zero; its substitute is
	// one that no index below 2^63 gives.
	v := mix(base + uint64(index)*golden)
	if v == 0 {
		v = mix(base - golden)
	}
	binary.BigEndian.PutUint64(id[:], v)
	return id
}

// summary returns the id of a summary below a span of an application: another one for
// each kind of links and for each first trace, by the id of that one's root.
func (d *ids) summary(app, root [8]byte, kind uint8) (id [8]byte) {
	v := mix(binary.BigEndian.Uint64(app[:]) ^ d.k1)
	v = mix(v ^ mix(binary.BigEndian.Uint64(root[:])+d.k0))
	return spanID(v, int(kind))
}

// copied returns the id of the copy of a span: different for each span of one trace,
// like those of the trace itself.
func (d *ids) copied(of [8]byte) (id [8]byte) {
	return spanID(binary.BigEndian.Uint64(of[:])^d.k1, 1)
}

// address hashes a kernel address so that equal ones stay equal.
func (d *ids) address(addr uint64) uint64 {
	if hash, ok := d.addresses[addr]; ok {
		return hash
	}
	var in [24]byte
	copy(in[:], d.addressKey[:])
	binary.LittleEndian.PutUint64(in[16:], addr)
	sum := sha256.Sum256(in[:])
	return remember(d.addresses, addr, binary.LittleEndian.Uint64(sum[:8]))
}

// mix is the finalizer of MurmurHash3 with the constants of SplitMix64
// (https://prng.di.unimi.it/splitmix64.c): a bijection.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
