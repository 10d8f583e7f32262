package spans

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Every description is of a function that a tested kernel has, or of one of those
// that only other kernels or modules have, and reads as one line.
func TestDescriptions(t *testing.T) {
	corpus, err := os.ReadFile("../internal/probe/testdata/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(corpus)) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], ".")
		known[name] = true
	}
	// Of modules, or inlined in Debian's kernels.
	elsewhere := []string{"fq_enqueue", "htb_enqueue", "tbf_enqueue", "tcp_data_queue_ofo"}
	all := descriptions()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text := all[name]
		if !known[name] && !slices.Contains(elsewhere, name) {
			t.Errorf("%s is on none of the kernels", name)
		}
		if text == "" || utf8.RuneCountInString(text) > 110 || strings.ContainsAny(text, "\n\t") || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q is no one line of up to 110 characters without a full stop", name, text)
		}
		if first, _ := utf8.DecodeRuneInString(text); first < 'a' || first > 'z' {
			t.Errorf("%s: %q does not begin with a verb in lower case", name, text)
		}
	}
}

func TestDescribe(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	for _, wanted := range []bool{false, true} {
		trace := NewBuilder(Options{Names: k, Clock: k, Describe: wanted}).Build(&j.Journey)
		described := 0
		for i := range trace.Spans {
			for _, a := range trace.Spans[i].Attrs {
				if a.Key == KeyDescription {
					described++
				}
			}
		}
		if (described > 0) != wanted {
			t.Errorf("wanted %v: %d spans are described", wanted, described)
		}
	}
}
