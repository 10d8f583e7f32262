package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manDir has the manual pages of a release.
const manDir = "../../deploy/man"

// The manual pages say what --help does. They are made here, so that the program
// needs no Markdown.
func TestManualPages(t *testing.T) {
	made := t.TempDir()
	root := newRoot(system{}, nil)
	root.DisableAutoGenTag = true
	escapeMarkdown(root)
	for _, cmd := range root.Commands() {
		escapeMarkdown(cmd)
	}
	// The pages have no date of their own: they are those of their version.
	date := time.Unix(0, 0).UTC()
	header := &doc.GenManHeader{Section: "1", Source: "otel-kprobe", Date: &date}
	if err := doc.GenManTree(root, header, made); err != nil {
		t.Fatal(err)
	}
	names := fileNames(t, made)
	for _, name := range names {
		page := string(read(t, filepath.Join(made, name)))
		goldenAt(t, filepath.Join(manDir, name), strings.Replace(page, `"`+date.Format("Jan 2006")+`"`, `""`, 1))
	}
	if kept := fileNames(t, manDir); !slices.Equal(names, kept) {
		t.Errorf("%s has %q, and there are commands for %q: remove the others", manDir, kept, names)
	}
}

// escapeMarkdown keeps cobra's generator from reading marks into plain text
// (OTEL_EXPORTER_OTLP_* has two of them).
func escapeMarkdown(cmd *cobra.Command) {
	marks := strings.NewReplacer(`\`, `\\`, `_`, `\_`, `*`, `\*`, `[`, `\[`, `<`, `\<`)
	cmd.Short, cmd.Long = marks.Replace(cmd.Short), marks.Replace(cmd.Long)
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { flag.Usage = marks.Replace(flag.Usage) })
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
