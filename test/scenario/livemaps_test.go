//go:build vm

package scenario

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

// liveMaps are the hash maps of the tracer, which is the only one on this machine,
// whose entries go with the packets and requests that they are of. LRU maps are not
// among them: they are full in the end, and bounded.
type liveMaps struct{ maps []*ebpf.Map }

// keptMaps have entries for longer: connections of ours, for a minute after their end;
// threads that write back; histograms; and what is not ours.
func keptMaps() []string {
	return []string{"own_flows", "writers", "histograms", "traces_ctx_v1"}
}

func openLiveMaps(t *testing.T) *liveMaps {
	t.Helper()
	l := &liveMaps{}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type() != ebpf.Hash || slices.Contains(keptMaps(), info.Name) {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		l.maps = append(l.maps, m)
	}
	if len(l.maps) == 0 {
		t.Fatal("the tracer has no maps whose entries go")
	}
	t.Logf("live maps: %v", l.maps)
	return l
}

// entries is the number of all entries now, or a little more: an entry that goes while
// they are counted lets the kernel begin again.
func (l *liveMaps) entries(t *testing.T) (n int) {
	t.Helper()
	for _, m := range l.maps {
		key := make([]byte, m.KeySize())
		for err := m.NextKey(nil, key); !errors.Is(err, ebpf.ErrKeyNotExist); err = m.NextKey(key, key) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func (l *liveMaps) close(t *testing.T) {
	t.Helper()
	for _, m := range l.maps {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
