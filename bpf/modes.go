package bpf

import (
	"errors"
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// modeBits is the size of the index into modes; session.bpf.c has the same.
const modeBits = 16

// multiplierTries bounds the search for a hash without collisions. With 2,000
// functions one try in some thousands succeeds and most fail early.
const multiplierTries = 1 << 20

// Mode says how the session program treats one function.
type Mode struct {
	Arg      int  // 0-based number of the argument register that leads to the skb, below 6
	Indirect bool // the argument is a struct sk_buff **
	NoStart  bool // no journey begins here
	Clones   bool // the returned skb, or list of them, joins the journey
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
	if m.Clones {
		v |= sessionFunctionModeMODE_CLONES
	}
	return uint16(v) | uint16(m.End)<<sessionFunctionModeMODE_END_SHIFT
}

// SetModes tells the session program, before it is attached, how to treat each
// function, by the address of its entry. Calling it while attached makes hits
// read wrong arguments.
func (o *Objects) SetModes(modes map[uint64]Mode) error {
	encoded := make([]addrMode, 0, len(modes))
	for addr, mode := range modes {
		encoded = append(encoded, addrMode{addr, mode.encode()})
	}
	table, multiplier, err := hashModes(encoded)
	if err != nil {
		return err
	}
	if err := o.vars["modes"].Set(table); err != nil {
		return fmt.Errorf("write how each function is treated: %w", err)
	}
	if err := o.vars["modes_multiplier"].Set(multiplier); err != nil {
		return fmt.Errorf("write how each function is treated: %w", err)
	}
	return nil
}

type addrMode struct {
	addr uint64
	mode uint16
}

// hashModes searches the multiplier under which functions share an entry of
// the table only when they are treated alike.
func hashModes(modes []addrMode) (*[1 << modeBits]uint16, uint64, error) {
	var (
		table  [1 << modeBits]uint16
		usedBy [1 << modeBits]uint32 // the try that wrote the entry of table
	)
	multiplier := uint64(0x9e3779b97f4a7c15) // 2^64 divided by the golden ratio
search:
	for try := uint32(1); try <= multiplierTries; try++ {
		multiplier = multiplier*0x5851f42d4c957f2d + 0x14057b7ef767814f // Knuth's MMIX
		multiplier |= 1
		for _, m := range modes {
			i := m.addr * multiplier >> (64 - modeBits)
			if usedBy[i] == try && table[i] != m.mode {
				continue search
			}
			table[i], usedBy[i] = m.mode, try
		}
		return &table, multiplier, nil
	}
	return nil, 0, errors.New("tell functions apart by a hash of their address: too many functions, choose fewer with a pattern")
}
