package spans

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryAttributeIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/spans.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if k == "" {
			t.Error("a key of the table has no name")
		}
		// The row of a table: key, type, on, unit and meaning.
		if !strings.Contains(string(doc), "\n| `"+k+"` |") {
			t.Errorf("docs/spans.md has no row for %s", k)
		}
	}
	for _, m := range regexp.MustCompile("\n\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(string(doc), -1) {
		if !slices.Contains(Keys(), m[1]) {
			t.Errorf("docs/spans.md describes %s, which no span carries", m[1])
		}
	}
}

func TestKeysAreUnique(t *testing.T) {
	keys := Keys()
	slices.Sort(keys)
	if n := len(slices.Compact(keys)); n != len(Keys()) {
		t.Errorf("%d of %d keys are unique", n, len(Keys()))
	}
}
