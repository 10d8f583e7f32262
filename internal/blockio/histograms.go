package blockio

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Latency returns how long a request was with the device, from its issue to its
// completion, and of a bio the time from its submission, in nanoseconds. It is
// not ok when one of the two times is unknown.
func Latency(b *event.Block) (ns uint64, ok bool) {
	start := b.StartMonoNs()
	if start == 0 || b.CompleteMonoNs < start {
		return 0, false
	}
	return b.CompleteMonoNs - start, true
}

// By says what the latencies are told apart by.
type By uint8

// The ways of telling latencies apart.
const (
	ByNone      By = iota // all together
	ByDevice              // the whole device
	ByOperation           // read, write, flush …
	ByCgroup              // the submitter's cgroup
	ByProcess             // the submitter's thread name
)

// ParseBy reads "device", "op", "cgroup" or "process".
func ParseBy(s string) (By, error) {
	for b := ByDevice; b <= ByProcess; b++ {
		if b.String() == s {
			return b, nil
		}
	}
	return ByNone, fmt.Errorf("parse %q: use device, op, cgroup or process", s)
}

// String returns what ParseBy reads, "" for ByNone.
func (b By) String() string {
	switch b {
	case ByDevice:
		return "device"
	case ByOperation:
		return "op"
	case ByCgroup:
		return "cgroup"
	case ByProcess:
		return "process"
	default:
		return ""
	}
}

// Counted says whether a request's latency belongs in a histogram: it completed,
// and its driver had it, or it is a bio. By device each layer counts under its
// own device; otherwise only what has no children does, since one transfer would
// count once per layer.
func Counted(by By, r *Request) bool {
	if r.Unfinished || !r.Bio && r.IssueMonoNs == 0 {
		return false
	}
	if _, ok := Latency(&r.Block); !ok {
		return false
	}
	return by == ByDevice || len(r.Children) == 0
}

// Key tells one histogram from the others. The kernel side makes the same keys:
// the number of the device (32 bits) or of the cgroup (64 bits) in little-endian
// order, the operation in one byte, or the thread's name, followed by zeros.
type Key [16]byte

// KeyOf returns the key of a request or bio.
func KeyOf(by By, b *event.Block) (k Key) {
	switch by {
	case ByDevice:
		binary.LittleEndian.PutUint32(k[:], b.Device)
	case ByOperation:
		k[0] = b.Op()
	case ByCgroup:
		binary.LittleEndian.PutUint64(k[:], b.Cgroup)
	case ByProcess:
		k = b.Comm
	case ByNone:
	}
	return k
}

// Device returns the dev_t in a key that KeyOf made ByDevice.
func (k Key) Device() uint32 { return binary.LittleEndian.Uint32(k[:]) }

// Op returns the operation in a key that KeyOf made ByOperation.
func (k Key) Op() uint8 { return k[0] }

// Cgroup returns the id of the cgroup in a key that KeyOf made ByCgroup.
func (k Key) Cgroup() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// Comm returns the thread's name in a key that KeyOf made ByProcess.
func (k Key) Comm() string {
	if i := bytes.IndexByte(k[:], 0); i >= 0 {
		return string(k[:i])
	}
	return string(k[:])
}

// OverflowKey is the key under which Histograms count what came after they had
// all the keys that they may have. KeyOf never makes it.
func OverflowKey() (k Key) {
	for i := range k {
		k[i] = 0xff
	}
	return k
}

// DefaultMaxKeys bounds the keys of Histograms unless told otherwise.
const DefaultMaxKeys = 1024

// Histograms are one Histogram per key, with a bound on the keys: cgroups and
// thread names are made by users, who could make ever new ones.
type Histograms struct {
	maxKeys int
	byKey   map[Key]*Histogram
}

// NewHistograms makes Histograms of at most maxKeys keys besides OverflowKey; 0
// is DefaultMaxKeys.
func NewHistograms(maxKeys int) *Histograms {
	return &Histograms{maxKeys: cmp.Or(max(maxKeys, 0), DefaultMaxKeys), byKey: map[Key]*Histogram{}}
}

// Add counts one latency in nanoseconds.
func (h *Histograms) Add(k Key, ns uint64) { h.at(k).Add(ns) }

// Merge adds what another histogram counted under a key.
func (h *Histograms) Merge(k Key, o *Histogram) { h.at(k).Merge(o) }

// at returns the histogram that counts for a key.
func (h *Histograms) at(k Key) *Histogram {
	if g, ok := h.byKey[k]; ok {
		return g
	}
	overflow := OverflowKey()
	keys := len(h.byKey)
	if _, ok := h.byKey[overflow]; ok {
		keys--
	}
	if keys >= h.maxKeys && k != overflow {
		return h.at(overflow)
	}
	g := &Histogram{}
	h.byKey[k] = g
	return g
}

// Keyed is one of several histograms.
type Keyed struct {
	Key Key
	*Histogram
}

// All returns the histograms, the one with the most counts first, and by key
// where those are equal.
func (h *Histograms) All() []Keyed {
	all := make([]Keyed, 0, len(h.byKey))
	for k, g := range h.byKey {
		all = append(all, Keyed{k, g})
	}
	slices.SortFunc(all, func(a, b Keyed) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), bytes.Compare(a.Key[:], b.Key[:]))
	})
	return all
}
