package spans

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever comes in whatever order, the encoder writes what AppendJSON writes.
func TestJSONEncoderEqualsAppendJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	env := NewEnvelope(Resource{}, Scope{Name: "x"})
	encoder := NewJSONEncoder(env)
	builder := testRequestBuilder()
	scenarios := blockScenarios()
	names := slices.Sorted(maps.Keys(scenarios))
	name := names[0]
	for n := range 5000 {
		if random.IntN(6) == 0 { // runs of one kind, as disks see them
			name = names[random.IntN(len(names))]
		}
		r := *scenarios[name]
		r.Block.Sector += uint64(random.IntN(3))
		r.Block.TID += uint32(random.IntN(2))
		r.Block.CompleteMonoNs += uint64(random.IntN(1000))
		trace := builder.Build(&r)
		want, got := string(env.AppendJSON(nil, trace)), string(encoder.Append(nil, trace))
		if want != got {
			t.Fatalf("trace %d, %s (-AppendJSON +encoder):\n%s", n, name, cmp.Diff(want, got))
		}
	}
	packet := testBuilder(newFakeKernel())
	j := pingVeth(newFakeKernel())
	trace := packet.Build(&j.Journey)
	if diff := cmp.Diff(string(env.AppendJSON(nil, trace)), string(encoder.Append(nil, trace))); diff != "" {
		t.Errorf("a packet's trace (-AppendJSON +encoder):\n%s", diff)
	}
}

func BenchmarkBlockJSON(b *testing.B) {
	env := NewEnvelope(Resource{}, Scope{Name: "x"})
	builder := testRequestBuilder()
	r := *blockScenarios()["write-queued"]
	encoder := NewJSONEncoder(env)
	for name, encode := range map[string]func([]byte, *Trace) []byte{"each": env.AppendJSON, "shared": encoder.Append} {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				r.Block.Sector++
				r.Block.CompleteMonoNs++
				buf = encode(buf[:0], builder.Build(&r))
			}
		})
	}
}
