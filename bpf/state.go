package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// Counters are sums over all CPUs since the objects were loaded.
type Counters struct {
	SubmittedFrames uint64 // frame records that went into the ring
	RingFullFrames  uint64 // frames lost because the ring was full
	RingFullFacts   uint64 // facts and clones lost because the ring was full
	RingFullEnds    uint64 // ends lost because the ring was full
	RingFullExtras  uint64 // stacks, callers, fields and payloads lost because the ring was full
	// LeftOutStarts counts the packets that were left out because half of the ring
	// was unread: once for each function that they passed meanwhile.
	LeftOutStarts uint64
	Unsampled     uint64 // packets left out for the randomness of their flow
	TrackedFull   uint64 // skbs not followed because the map of tracked skbs was full
	SlotsFull     uint64 // frames not followed to their return for want of a slot
	ReturnsLost   uint64 // frames whose return was never seen
}

// Counters reads the per-CPU counters.
func (o *Objects) Counters() (Counters, error) {
	var states []classicCpuState
	if err := o.maps["cpu_states"].Lookup(uint32(0), &states); err != nil {
		return Counters{}, fmt.Errorf("read the kernel's counters: %w", err)
	}
	var sum Counters
	for _, s := range states {
		sum.SubmittedFrames += s.SubmittedFrames
		sum.RingFullFrames += s.RingFullFrames
		sum.RingFullFacts += s.RingFullFacts
		sum.RingFullEnds += s.RingFullEnds
		sum.RingFullExtras += s.RingFullExtras
		sum.LeftOutStarts += s.LeftOutStarts
		sum.Unsampled += s.Unsampled
		sum.TrackedFull += s.TrackedFull
		sum.SlotsFull += s.SlotsFull
		sum.ReturnsLost += s.ReturnsLost
	}
	return sum, nil
}

// Lost is how many events there would have been besides: those that found no room, and
// those of packets that were left out, or could not be followed.
func (c *Counters) Lost() uint64 {
	return c.RingFullFrames + c.RingFullFacts + c.RingFullEnds + c.RingFullExtras + c.LeftOutStarts + c.TrackedFull + c.SlotsFull
}

// OpenSlots counts the frames that were entered and have not returned. Once all is
// detached their returns are lost: the kernel left out the probe, which kernels
// before 6.7 do not count, or the call goes on.
func (o *Objects) OpenSlots() (uint64, error) {
	slots := o.maps["slots"]
	indices, states := make([]uint32, slots.MaxEntries()), make([]classicSlot, slots.MaxEntries())
	var cursor ebpf.MapBatchCursor
	n, err := slots.BatchLookup(&cursor, indices, states, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("read the open frames: %w", err)
	}
	var open uint64
	for i := range states[:n] {
		open += uint64(states[i].Busy)
	}
	return open, nil
}

// RecursionMisses sums the runs of our programs that the kernel left out
// because a program was already running on that CPU. Kernels before 6.7 do not
// count them for kprobes (https://git.kernel.org/torvalds/c/dd8657894c11): 0.
func (o *Objects) RecursionMisses() (uint64, error) {
	var sum uint64
	for name, program := range o.Programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of BPF program %s: %w", name, err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}

// RunTime is how long our programs ran on all CPUs together, as far as the kernel takes
// the time: only while kernel.bpf_stats_enabled is 1.
func (o *Objects) RunTime() (time.Duration, error) { return runTime(o.Programs) }

func runTime(programs map[string]*ebpf.Program) (time.Duration, error) {
	var sum time.Duration
	for name, program := range programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of BPF program %s: %w", name, err)
		}
		sum += stats.Runtime
	}
	return sum, nil
}

// Live is the number of skbs that are tracked now.
func (o *Objects) Live() (int64, error) {
	var live int64
	if err := o.vars["live"].Get(&live); err != nil {
		return 0, fmt.Errorf("read the number of tracked skbs: %w", err)
	}
	return live, nil
}

// TrackedCount counts the entries of the map of tracked skbs.
func (o *Objects) TrackedCount() (int, error) {
	count := 0
	err := o.eachTracked(func(uint64, *classicTrackedSkb) { count++ })
	return count, err
}

// EvictIdle stops following the skbs of which nothing was seen since
// beforeMonoNs (CLOCK_MONOTONIC); each gives an end record EndEvicted.
func (o *Objects) EvictIdle(beforeMonoNs uint64) (int, error) {
	var idle []uint64
	err := o.eachTracked(func(skb uint64, state *classicTrackedSkb) {
		if state.SeenMonoNs != 0 && state.SeenMonoNs < beforeMonoNs {
			idle = append(idle, skb)
		}
	})
	if err != nil {
		return 0, err
	}
	evicted := 0
	for _, skb := range idle {
		ended, err := o.Programs[ProgramEvict].Run(&ebpf.RunOptions{Context: [2]uint64{skb}})
		if err != nil {
			return evicted, fmt.Errorf("stop following an idle skb: %w", err)
		}
		evicted += int(ended)
	}
	return evicted, nil
}

func (o *Objects) eachTracked(visit func(skb uint64, state *classicTrackedSkb)) error {
	var (
		skb   uint64
		state classicTrackedSkb
	)
	entries := o.maps["tracked"].Iterate()
	for entries.Next(&skb, &state) {
		visit(skb, &state)
	}
	// A journey may end while we walk: the walk starts anew then, and gives up
	// when that happens too often. What it saw by then is good enough.
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("walk the tracked skbs: %w", err)
	}
	return nil
}

// ExcludeFlow keeps the packets of one connection, in both directions, from
// starting a journey: the exporter's own.
func (o *Objects) ExcludeFlow(local, remote netip.AddrPort) error {
	flow := ownFlow(local, remote)
	if err := o.maps["own_flows"].Put(flow, uint32(1)); err != nil {
		return fmt.Errorf("exclude our own connection %s to %s: %w", local, remote, err)
	}
	return nil
}

// IncludeFlow takes back ExcludeFlow.
func (o *Objects) IncludeFlow(local, remote netip.AddrPort) error {
	err := o.maps["own_flows"].Delete(ownFlow(local, remote))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("no longer exclude %s to %s: %w", local, remote, err)
	}
	return nil
}

// ownFlow has the addresses as facts have them: IPv4 in the first four bytes.
func ownFlow(local, remote netip.AddrPort) classicOwnFlow {
	flow := classicOwnFlow{LocalPort: local.Port(), RemotePort: remote.Port()}
	copy(flow.Local[:], local.Addr().Unmap().AsSlice())
	copy(flow.Remote[:], remote.Addr().Unmap().AsSlice())
	return flow
}
