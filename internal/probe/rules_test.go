package probe

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// corpus returns the functions of four real kernels that take an skb:
// name, module, arguments, kernels (testdata/collect wrote it).
func corpus(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile("testdata/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestRulesGolden shows what the tables say of real functions: whoever changes
// a rule, or adds a kernel, sees here whom it hits.
func TestRulesGolden(t *testing.T) {
	noStart, excluded := noStartRules(), excludedRules()
	var out bytes.Buffer
	for _, row := range corpus(t) {
		name, args := row[0], strings.Split(row[2], ",")
		var says []string
		if r := excluded.reason(name); r != "" {
			continue // checked below, they are many
		}
		if r := noStart.reason(name); r != "" {
			says = append(says, "no start: "+r)
		}
		if note := kinNote(kinOf(name)); note != "" {
			says = append(says, note)
		}
		if len(args) > 1 {
			says = append(says, "skb "+args[arriving(name)]+" of "+row[2])
		}
		if outParameter(name) {
			says = append(says, "out parameter")
		}
		if says != nil {
			fmt.Fprintf(&out, "%s (%s): %s\n", name, row[3], strings.Join(says, "; "))
		}
	}
	compareGolden(t, "rules", out.String())
}

// TestExcluded holds the exclusions to the few that are explained.
func TestExcluded(t *testing.T) {
	excluded := excludedRules()
	got := make(map[string]bool)
	for _, row := range corpus(t) {
		name := row[0]
		if excluded.reason(name) == "" {
			continue
		}
		if !strings.Contains(name, "trace") && !strings.HasPrefix(name, "__probestub_") {
			got[name] = true
		}
	}
	want := map[string]bool{
		"kfree_skb": true, "kfree_skb_reason": true, "kfree_skb_list": true, "kfree_skb_list_reason": true,
		"sk_skb_reason_drop": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("excluded, tracing itself aside (-want +got):\n%s", diff)
	}
	if excluded.reason("__traceiter_kfree_skb") == "" {
		t.Error("the kernel's own tracing is not excluded")
	}
}

// TestTablesNameRealFunctions finds names that are mistyped: all but a few of
// each table exist on one of the kernels.
func TestTablesNameRealFunctions(t *testing.T) {
	known := make(map[string]bool)
	for _, row := range corpus(t) {
		known[row[0]] = true
	}
	// Inlined or not built on the four kernels, or modules not in the corpus.
	elsewhere := map[string]bool{
		"get_xps_queue": true, "noqueue_enqueue": true, "ip_fragment": true, "fq_enqueue": true,
		"apparmor_ip_postroute": true, "ipt_do_table": true, "ip6t_do_table": true, "__netif_rx": true, "gro_receive_skb": true,
		"xmit_skb": true, "qdisc_pkt_len_init": true,
		"netem_enqueue": true, "tbf_enqueue": true, "htb_enqueue": true, "sfq_enqueue": true, "cake_enqueue": true,
		"nft_do_chain_inet": true, "nft_do_chain_ipv4": true, "nft_do_chain_ipv6": true,
	}
	for name := range curated() {
		if !known[name] && !elsewhere[name] {
			t.Errorf("curated function %s is on none of the kernels", name)
		}
	}
}
