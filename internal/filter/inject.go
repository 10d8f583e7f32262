package filter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Symbols of the subprograms that [Inject] replaces. In C they are
//
//	static __noinline __u32 filter_l2(__u64 data, __u32 caplen, __u32 wirelen)
//	static __noinline __u32 filter_l3(__u64 data, __u32 caplen, __u32 wirelen)
//
// with bodies that keep the compiler from guessing the result or dropping an
// argument. See [Program.Instructions] for what they take and return.
const (
	SymbolL2 = "filter_l2"
	SymbolL3 = "filter_l3"
)

// Symbols of the subprograms that [InjectTunnel] replaces: of the same kind, for
// the packet that a tunnel carries.
const (
	SymbolTunnelL2 = "tunnel_l2"
	SymbolTunnelL3 = "tunnel_l3"
)

// ErrNoFilter is wrapped by the error of [Inject] when no program calls a
// filter subprogram.
var ErrNoFilter = errors.New("no program contains a filter subprogram")

// Inject replaces the bodies of filter_l2 and filter_l3 in every program of
// spec that has them. It must run before the spec is loaded and may run again
// with another filter. On error spec is unchanged.
func Inject(spec *ebpf.CollectionSpec, p *Program, o Options) error {
	return injectAs(spec, p, o, SymbolL2, SymbolL3)
}

// InjectTunnel is [Inject] for tunnel_l2 and tunnel_l3.
func InjectTunnel(spec *ebpf.CollectionSpec, p *Program, o Options) error {
	return injectAs(spec, p, o, SymbolTunnelL2, SymbolTunnelL3)
}

func injectAs(spec *ebpf.CollectionSpec, p *Program, o Options, symbolL2, symbolL3 string) error {
	bodies, err := translateAll(p, o, symbolL2, symbolL3)
	if err != nil {
		return err
	}
	replaced := make(map[*ebpf.ProgramSpec]asm.Instructions)
	for name, prog := range spec.Programs {
		insns, err := replaceAll(prog.Instructions, bodies)
		if err != nil {
			return fmt.Errorf("inject filter into program %s: %w", name, err)
		}
		if insns != nil {
			replaced[prog] = insns
		}
	}
	if len(replaced) == 0 {
		return fmt.Errorf("inject filter %q: %w", p.Expression, ErrNoFilter)
	}
	for prog, insns := range replaced {
		prog.Instructions = insns
	}
	return nil
}

// InjectProgram is [Inject] for a single program.
func InjectProgram(spec *ebpf.ProgramSpec, p *Program, o Options) error {
	bodies, err := translateAll(p, o, SymbolL2, SymbolL3)
	if err != nil {
		return err
	}
	insns, err := replaceAll(spec.Instructions, bodies)
	if err != nil {
		return fmt.Errorf("inject filter into program %s: %w", spec.Name, err)
	}
	if insns == nil {
		return fmt.Errorf("inject filter %q into program %s: %w", p.Expression, spec.Name, ErrNoFilter)
	}
	spec.Instructions = insns
	return nil
}

// translateAll returns the translated bodies by symbol.
func translateAll(p *Program, o Options, symbolL2, symbolL3 string) (map[string]asm.Instructions, error) {
	bodies := make(map[string]asm.Instructions)
	for symbol, layer := range map[string]Layer{symbolL2: L2, symbolL3: L3} {
		body, err := p.Instructions(layer, o)
		if err != nil {
			return nil, err
		}
		bodies[symbol] = body
	}
	return bodies, nil
}

// replaceAll returns a copy of insns with the functions named in bodies
// replaced, or nil if insns has none of them.
func replaceAll(insns asm.Instructions, bodies map[string]asm.Instructions) (asm.Instructions, error) {
	var out asm.Instructions
	found := false
	for i := 0; i < len(insns); {
		body, ok := bodies[insns[i].Symbol()]
		if !ok {
			out = append(out, insns[i])
			i++
			continue
		}
		end := functionEnd(insns, i)
		if i == 0 {
			return nil, fmt.Errorf("%s is the program itself and not a subprogram", insns[i].Symbol())
		}
		out = append(out, graft(insns[i], body)...)
		found = true
		i = end
	}
	if !found {
		return nil, nil
	}
	return out, nil
}

// functionEnd returns the index after the last instruction of the function
// that starts at start: the next symbol begins the next function.
func functionEnd(insns asm.Instructions, start int) int {
	for i := start + 1; i < len(insns); i++ {
		if insns[i].Symbol() != "" || btf.FuncMetadata(&insns[i]) != nil {
			return i
		}
	}
	return len(insns)
}

// graft returns body with the identity of the function that began with first:
// its symbol, which calls refer to, its BTF function and its first source
// line. The verifier wants the latter two at the start of every subprogram if
// any has them. Other lines of the old body go.
func graft(first asm.Instruction, body asm.Instructions) asm.Instructions {
	out := make(asm.Instructions, len(body))
	copy(out, body)
	head := out[0].WithSymbol(first.Symbol())
	if fn := btf.FuncMetadata(&first); fn != nil {
		head = btf.WithFuncMetadata(head, fn)
	}
	if line := first.Source(); line != nil {
		head = head.WithSource(line)
	}
	out[0] = head
	return out
}
