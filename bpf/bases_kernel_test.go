//go:build vm

package bpf

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// TestKernelLooksMemoryBasesUp compares with what the kernel lists.
func TestKernelLooksMemoryBasesUp(t *testing.T) {
	got, err := LookUpMemoryBases()
	if features.HaveProgramHelper(ebpf.Syscall, asm.FnKallsymsLookupName) != nil {
		if !errors.Is(err, ebpf.ErrNotSupported) {
			t.Errorf("error %v, want ErrNotSupported: this kernel looks no symbols up for programs", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	listed, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	var want MemoryBases
	for name, to := range map[string]*uint64{"page_offset_base": &want.PageOffset, "vmemmap_base": &want.Vmemmap} {
		for line := range bytes.Lines(listed) {
			if fields := bytes.Fields(line); string(fields[2]) == name {
				if *to, err = strconv.ParseUint(string(fields[0]), 16, 64); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got != want || want.PageOffset == 0 || want.Vmemmap == 0 {
		t.Errorf("got %#x, want %#x", got, want)
	}
}
