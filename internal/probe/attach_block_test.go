package probe

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// TestBlockPrograms expects second programs where the first may be left out, and nothing
// for what the kernel lacks or the run does not need.
func TestBlockPrograms(t *testing.T) {
	all := kernel.BlockSignatures{Tracepoints: map[string]kernel.TracepointArgs{}, Execute: 0, ExecuteNoWait: 0}
	for _, p := range blockProbes() {
		if p.tracepoint != "" {
			all.Tracepoints[p.tracepoint] = kernel.TracepointArgs{Present: true}
		}
	}
	preempted := all
	preempted.Preempted = true
	few := kernel.BlockSignatures{Execute: -1, ExecuteNoWait: -1, Tracepoints: map[string]kernel.TracepointArgs{
		kernel.TracepointRequestComplete: {Present: true},
	}}
	tests := []struct {
		name       string
		signatures kernel.BlockSignatures
		need       BlockNeeds
		first      int
		again      []string // without the suffix
	}{
		{"old", all, BlockNeeds{Bios: true, Loop: true, OldKernel: true}, 14, nil},
		{"interrupted", all, BlockNeeds{Bios: true}, 12, []string{"rq_complete", "bio_complete", "rq_requeue", "rq_issue"}},
		{"preempted", preempted, BlockNeeds{Bios: true, Loop: true}, 14, []string{
			"rq_complete", "bio_complete", "writeback_end", "rq_requeue", "rq_issue", "rq_insert", "bio_split", "bio_remap",
			"writeback_begin", "bio_queue",
		}},
		{"requests only", preempted, BlockNeeds{Loop: true}, 3, []string{"rq_complete", "rq_requeue", "rq_issue"}},
		{"one tracepoint", few, BlockNeeds{Bios: true}, 1, []string{"rq_complete"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names := BlockPrograms(tt.signatures, tt.need)
			var again []string
			for i, name := range names {
				if first, ok := strings.CutSuffix(name, bpf.AgainSuffix); ok {
					again = append(again, first)
					if names[i-1] != first {
						t.Errorf("%s does not follow the program that it stands in for: %v", name, names)
					}
				}
			}
			if diff := cmp.Diff(tt.again, again); diff != "" {
				t.Errorf("second programs (-want +got):\n%s", diff)
			}
			if first := len(names) - len(again); first != tt.first || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
				t.Errorf("%d others, want %d, each once: %v", first, tt.first, names)
			}
		})
	}
}
