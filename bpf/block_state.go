package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// BlockCounters are sums over all CPUs since the objects were loaded.
type BlockCounters struct {
	Submitted      uint64 // records of requests and bios that went into the ring
	RingFull       uint64 // records of any kind that found no room in it
	Unsampled      uint64 // requests and bios left out for their randomness
	RequestsFull   uint64 // requests not followed because too many were in flight
	BiosFull       uint64 // bios whose submitter is unknown because too many were in flight
	Evicted        uint64 // requests and bios whose end was never seen
	HistogramsFull uint64 // latencies not counted because there were too many keys
}

// Counters reads the per-CPU counters.
func (o *BlockObjects) Counters() (BlockCounters, error) {
	var states []blockBlockCpuState
	if err := o.maps["block_cpu_states"].Lookup(uint32(0), &states); err != nil {
		return BlockCounters{}, fmt.Errorf("read the kernel's counters: %w", err)
	}
	var sum BlockCounters
	for _, s := range states {
		sum.Submitted += s.Submitted
		sum.RingFull += s.RingFull
		sum.Unsampled += s.Unsampled
		sum.RequestsFull += s.RequestsFull
		sum.BiosFull += s.BiosFull
		sum.Evicted += s.Evicted
	}
	if v := o.vars["histograms_full"]; v != nil {
		if err := v.Get(&sum.HistogramsFull); err != nil {
			return BlockCounters{}, fmt.Errorf("read the kernel's counters: %w", err)
		}
	}
	return sum, nil
}

// Lost is how many requests and bios are not reported, or not whole, or not counted, for
// want of room.
func (c *BlockCounters) Lost() uint64 {
	return c.RingFull + c.RequestsFull + c.BiosFull + c.HistogramsFull
}

// RecursionMisses is at most how many runs of programs the kernel left out, because
// they were running on that CPU, that no other program made up for: 0 before Linux
// 6.1, which leaves none out.
func (o *BlockObjects) RecursionMisses() (uint64, error) {
	misses := map[string]uint64{}
	for name, program := range o.Programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of BPF program %s: %w", name, err)
		}
		misses[name] = stats.RecursionMisses
	}
	var sum uint64
	for name, n := range misses {
		if again, ok := misses[name+AgainSuffix]; ok {
			n = min(n, again)
		} else if strings.HasSuffix(name, AgainSuffix) {
			n = 0
		}
		sum += n
	}
	return sum, nil
}

// RunTime is Objects.RunTime.
func (o *BlockObjects) RunTime() (time.Duration, error) { return runTime(o.Programs) }

// tableEntries is TABLE_ENTRIES of block_state.h.
const tableEntries = 1 << 16

// Flags of block_state.h, which no record is sent with.
const (
	flagInCgroup  = 1 << 7 // BIO_IN_CGROUP
	flagUnsampled = 1 << 6 // BIO_UNSAMPLED
)

// InFlight gives the records of the requests that were issued and have not
// completed, as the ring would have had them, without CompleteMonoNs. Those that are
// left out are not among them.
func (o *BlockObjects) InFlight() ([][]byte, error) {
	var records [][]byte
	err := o.eachRequest(func(state *blockRequestState) {
		if state.Record.Flags&flagUnsampled != 0 {
			return
		}
		state.Record.Flags &^= flagInCgroup
		raw := make([]byte, 0, blockRecordBytes)
		raw, err := binary.Append(raw, binary.LittleEndian, &state.Record)
		if err == nil { // it is of fixed size
			records = append(records, raw)
		}
	})
	return records, err
}

// eachRequest calls visit with each request that is in flight.
func (o *BlockObjects) eachRequest(visit func(*blockRequestState)) error {
	requests := o.maps["requests"]
	if o.old {
		var key uint64
		var state blockRequestState
		entries := requests.Iterate()
		for entries.Next(&key, &state) {
			visit(&state)
		}
		if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
			return fmt.Errorf("walk the requests in flight: %w", err)
		}
		return nil
	}
	keys, states := make([]uint32, tableEntries), make([]blockRequestState, tableEntries)
	var cursor ebpf.MapBatchCursor
	n, err := requests.BatchLookup(&cursor, keys, states, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("walk the requests in flight: %w", err)
	}
	for i := range states[:n] {
		if states[i].Key != 0 {
			visit(&states[i])
		}
	}
	return nil
}

// BlockKey tells the histograms of the kernel apart: blockio.Key.
type BlockKey [16]byte

// BlockHistogram is what the kernel counted under one key; the indices of Counts
// are those of blockio.Bucket.
type BlockHistogram struct {
	Counts                     [512]uint64
	Count, SumNs, MinNs, MaxNs uint64
}

func (h *BlockHistogram) add(from *blockHistogram) {
	for i, n := range from.Counts {
		h.Counts[i] += n
	}
	h.Count += from.Count
	h.SumNs += from.SumNs
	if from.MinNs != 0 && (h.MinNs == 0 || from.MinNs-1 < h.MinNs) { // the kernel's is one more
		h.MinNs = from.MinNs - 1
	}
	h.MaxNs = max(h.MaxNs, from.MaxNs)
}

// Histograms reads what the kernel has counted since the objects were loaded.
// Without a key (By 0) there is one, under the zero key.
func (o *BlockObjects) Histograms() (map[BlockKey]*BlockHistogram, error) {
	all := map[BlockKey]*BlockHistogram{}
	var perCPU []blockHistogram
	if err := o.maps["total"].Lookup(uint32(0), &perCPU); err != nil {
		return nil, fmt.Errorf("read the kernel's histogram: %w", err)
	}
	total := &BlockHistogram{}
	for i := range perCPU {
		total.add(&perCPU[i])
	}
	if total.Count > 0 {
		all[BlockKey{}] = total
	}
	var key blockHistogramKey
	var one blockHistogram
	entries := o.maps["histograms"].Iterate()
	for entries.Next(&key, &one) {
		h := &BlockHistogram{}
		h.add(&one)
		all[BlockKey(key.Bytes)] = h
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("walk the kernel's histograms: %w", err)
	}
	return all, nil
}

// NewBlockObject returns nil when the object for newer kernels can be loaded:
// its programs compare and exchange (Linux 5.12,
// https://git.kernel.org/torvalds/c/5ffa25502b5a) and loop by a helper (5.17,
// https://docs.ebpf.io/linux/helper-function/bpf_loop/). Otherwise it says why not.
// A helper can't be tried in a tracing program, which needs something to trace;
// kprobe programs have the same ones.
func NewBlockObject() error { return features.HaveProgramHelper(ebpf.Kprobe, asm.FnLoop) }
