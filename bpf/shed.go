package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// MaxShedFunctions is how many functions can be shed: MAX_SHED_FUNCTIONS of maps.h.
const MaxShedFunctions = 1024

// applyShedding makes room for the functions that are shed, if any may be.
func applyShedding(spec *ebpf.CollectionSpec, sheds bool) error {
	if !sheds {
		spec.Maps["shed_functions"].MaxEntries = 1 // never used
		return nil
	}
	if err := spec.Variables["can_shed"].Set(uint8(1)); err != nil {
		return fmt.Errorf("write BPF settings: %w", err)
	}
	return nil
}

// Shed keeps the frames of functions, by the address that they have in frames, from
// being recorded, in addition to those that are shed already. Calls that are under way
// are recorded when they return; journeys begin and end as before. The first frame of
// an skb and frames of functions with kin are recorded all the same. Options.Sheds must
// have been set.
func (o *Objects) Shed(functions []uint64) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	none := make([]uint64, cpus)
	for _, function := range functions {
		err := o.maps["shed_functions"].Update(function, none, ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("shed the function at %#x: %w", function, err)
		}
	}
	shed, err := o.ShedFrames()
	if err != nil {
		return err
	}
	return o.setShedCount(len(shed))
}

// ShedFrames says of each function that is shed how many frames were not recorded since.
func (o *Objects) ShedFrames() (map[uint64]uint64, error) {
	var (
		function uint64
		perCPU   []uint64
		frames   = make(map[uint64]uint64)
	)
	entries := o.maps["shed_functions"].Iterate()
	for entries.Next(&function, &perCPU) {
		sum := uint64(0)
		for _, n := range perCPU {
			sum += n
		}
		frames[function] = sum
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the functions that are shed: %w", err)
	}
	return frames, nil
}

// Restore lets the frames of all functions be recorded again, and gives what ShedFrames
// would have given.
func (o *Objects) Restore() (map[uint64]uint64, error) {
	if err := o.setShedCount(0); err != nil { // nothing is counted from here on
		return nil, err
	}
	frames, err := o.ShedFrames()
	if err != nil {
		return nil, err
	}
	for function := range frames {
		if err := o.maps["shed_functions"].Delete(function); err != nil {
			return nil, fmt.Errorf("restore the function at %#x: %w", function, err)
		}
	}
	return frames, nil
}

func (o *Objects) setShedCount(n int) error {
	if err := o.vars["shed_count"].Set(uint32(n)); err != nil {
		return fmt.Errorf("set the number of functions that are shed: %w", err)
	}
	return nil
}
