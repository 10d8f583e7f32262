package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// liveNames gives names to the numbers of the running kernel. It reads symbols
// and drop reasons when the first name is asked for, so that listening begins
// without waiting for them.
type liveNames struct {
	symbols func() *kernel.Symbols // nil when they can't be read
	reasons func() kernel.DropReasons
	netns   *kernel.NetNSNames
	// program names the BPF programs that are traced, "" for others; nil: none is.
	program func(fn uint64) string
}

var _ spans.Names = (*liveNames)(nil)

// newLiveNames takes the symbols from where the selection of functions has them, and
// the types of the kernel from kernelBTF (kernel.ReadVmlinuxBTF).
func newLiveNames(read func() (*kernel.Symbols, error), kernelBTF string, logger *slog.Logger) *liveNames {
	return &liveNames{
		symbols: sync.OnceValue(func() *kernel.Symbols {
			symbols, err := read()
			if err != nil {
				logger.Warn("functions are shown by address only", "error", err)
			}
			return symbols
		}),
		reasons: sync.OnceValue(func() kernel.DropReasons {
			reasons, err := readDropReasons(kernelBTF)
			if err != nil {
				logger.Warn("some drop reasons are shown by number only", "error", err)
			}
			return reasons
		}),
		netns: kernel.NewNetNSNames(),
	}
}

// warm reads what the first trace will need.
func (n *liveNames) warm() {
	n.symbols()
	n.reasons()
}

// readDropReasons reads the kernel's reasons and those of its loaded modules.
// With an error, those are given that could be read.
func readDropReasons(kernelBTF string) (kernel.DropReasons, error) {
	vmlinux, err := kernel.ReadVmlinuxBTF(kernelBTF, kernel.BTFDir)
	if err != nil {
		return kernel.DropReasons{}, err
	}
	names, err := kernel.ModulesWithBTF(kernel.BTFDir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // types of the kernel come from a file, those of modules from nowhere
	}
	errs := []error{err}
	var modules []*kernel.RawBTF
	for _, name := range names {
		module, err := kernel.ReadBTF(kernel.BTFDir, name, vmlinux)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unloaded meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		modules = append(modules, module)
	}
	return kernel.ReadDropReasons(vmlinux, modules...), errors.Join(errs...)
}

// Function implements spans.Names. A kprobe may report an address a few bytes
// into its function (behind ENDBR).
func (n *liveNames) Function(addr uint64) spans.Function {
	if hook, _ := event.Program(addr); hook != event.HookNone {
		if n.program == nil {
			return spans.Function{}
		}
		return spans.Function{Name: n.program(addr), Module: "bpf"}
	}
	symbol, _, ok := n.lookup(addr)
	if !ok {
		return spans.Function{}
	}
	// A function that the compiler specialised is still that function:
	// __netif_receive_skb_core.constprop.0.
	name, _, _ := strings.Cut(symbol.Name, ".")
	return spans.Function{Name: name, Module: symbol.Module}
}

// Location implements spans.Names.
func (n *liveNames) Location(addr uint64) string {
	symbol, offset, ok := n.lookup(addr)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s+%#x", symbol.Name, offset)
}

func (n *liveNames) lookup(addr uint64) (kernel.Symbol, uint64, bool) {
	symbols := n.symbols()
	if symbols == nil {
		return kernel.Symbol{}, 0, false
	}
	return symbols.Lookup(addr)
}

// DropReason implements spans.Names.
func (n *liveNames) DropReason(value uint32) string { return n.reasons().Name(value) }

// NetNS implements spans.Names.
func (n *liveNames) NetNS(inum uint32, unixNs uint64) string { return n.netns.Name(inum, unixNs) }
