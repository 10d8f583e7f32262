package probe

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

func TestRulePrograms(t *testing.T) {
	nft := []string{bpf.ProgramRuleChain, bpf.ProgramRuleVerdict, bpf.ProgramRuleReject, bpf.ProgramRuleLookup, bpf.ProgramRuleEvaluated, bpf.ProgramRuleTarget}
	tests := []struct {
		name    string
		filters kernel.PacketFilters
		want    []string
	}{
		{"no filter costs nothing", kernel.PacketFilters{}, nil},
		{"nftables", kernel.PacketFilters{NFTables: true}, nft},
		{"iptables", kernel.PacketFilters{XTables: true}, []string{bpf.ProgramRuleTable}},
		{"both", kernel.PacketFilters{NFTables: true, XTables: true}, append(nft[:len(nft):len(nft)], bpf.ProgramRuleTable)},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, RulePrograms(tt.filters)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
