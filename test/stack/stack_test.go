// Package stack holds docker-compose.yaml, the images that it builds, and what its
// services are configured with, to their specifications, to one another and to the
// documents. No image is pulled; TestStackRuns alone starts them, with others in the place
// of those that a registry has.
package stack

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"go.yaml.in/yaml/v3"
)

// root is the checkout.
const root = "../.."

// read returns a file of the checkout.
func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// readYAML reads a file into into, which has a field for each of its keys: another one
// fails the test.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	file, err := os.Open(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
}

// documented are the names of all attributes that docs/spans.md has a row for.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\|").FindAllSubmatch(read(t, "docs/spans.md"), -1) {
		names[string(row[1])] = true
	}
	if len(names) < 100 {
		t.Fatalf("docs/spans.md has rows for %d attributes, want more than 100", len(names))
	}
	return names
}
