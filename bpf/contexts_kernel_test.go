//go:build vm

package bpf

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// longContexts is a map as a later version of the interface may have it.
func longContexts(t *testing.T) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: contextKeyBytes, ValueSize: contextValueBytes + 8, MaxEntries: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // nothing is lost with it
	return m
}

// TestKernelContexts expects all who open the map at the same time to get the same
// one, with the shape of the interface, and others to be refused.
func TestKernelContexts(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	const dir = "/sys/fs/bpf/otel-kprobe-test"
	pin := dir + "/" + contextsMap
	defer os.RemoveAll(dir)
	opened := make([]*ebpf.Map, 16)
	var all sync.WaitGroup
	for i := range opened {
		all.Go(func() {
			var err error
			if opened[i], err = OpenContexts(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ids := map[ebpf.MapID]bool{}
	for _, m := range opened {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		ids[id] = true
		if m.Type() != ebpf.LRUHash || m.KeySize() != 8 || m.ValueSize() != 24 || m.MaxEntries() != 16384 {
			t.Errorf("the map is %v", m)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d maps were opened, want 1", len(ids))
	}
	for name, want := range map[string]struct {
		spec ebpf.MapSpec
		ok   bool
	}{
		"array":       {ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 24, MaxEntries: 1}, false},
		"short key":   {ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 24, MaxEntries: 1}, false},
		"short value": {ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 16, MaxEntries: 1}, false},
		"long value":  {ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 32, MaxEntries: 1}, true},
	} {
		if err := os.Remove(pin); err != nil {
			t.Fatal(err)
		}
		m, err := ebpf.NewMap(&want.spec)
		if err == nil {
			err = m.Pin(pin)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := OpenContexts(dir)
		if (err == nil) != want.ok {
			t.Errorf("%s: %v, want that it can be used: %v", name, err, want.ok)
		}
		_, _ = again.Close(), m.Close() // nothing is lost with them
	}
	if _, err := OpenContexts(t.TempDir() + "/otel"); !errors.Is(err, ErrNoBPFFS) {
		t.Errorf("without a BPF file system: %v", err)
	}
}
