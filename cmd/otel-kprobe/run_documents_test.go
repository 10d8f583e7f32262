package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/config"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
)

const (
	exampleFile    = "../../deploy/otel-kprobe.yaml"
	schemaFile     = "../../deploy/otel-kprobe.schema.json"
	operationsFile = "../../docs/operations.md"
	// exampleHead begins the example. Its first line is for editors with the YAML
	// language server.
	exampleHead = `yaml-language-server: $schema=otel-kprobe.schema.json

The configuration of 'otel-kprobe run', every key with its default. See docs/operations.md.`
)

// The files and tables that are made of the schema are as the program has it.
func TestServiceDocuments(t *testing.T) {
	schema := serviceSchema()
	t.Run("example", func(t *testing.T) { goldenAt(t, exampleFile, schema.Example(exampleHead)) })
	t.Run("schema", func(t *testing.T) {
		text, err := schema.JSONSchema("The configuration of otel-kprobe run")
		if err != nil {
			t.Fatal(err)
		}
		goldenAt(t, schemaFile, string(text))
	})
	t.Run("keys", func(t *testing.T) { goldenPart(t, operationsFile, "keys", schema.Markdown()) })
	t.Run("metrics", func(t *testing.T) { goldenPart(t, operationsFile, "metrics", metricsTable()) })
}

// metricsTable is the table of the metrics about otel-kprobe.
func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | kind | unit | what it is |\n|---|---|---|---|\n")
	for _, m := range allMetrics() {
		kind := "counter"
		if m.level {
			kind = "up-down counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", m.name, kind, m.unit, m.doc)
	}
	return b.String()
}

// goldenAt is golden for a file that is not in testdata.
func goldenAt(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, string(read(t, path))); diff != "" {
		t.Errorf("%s (run with -update to make it anew; -want +got):\n%s", path, diff)
	}
}

// goldenPart is goldenAt for what stands between two comments of a document.
func goldenPart(t *testing.T, path, name, want string) {
	t.Helper()
	text := string(read(t, path))
	head, rest, begins := strings.Cut(text, "<!-- "+name+":")
	line, rest, _ := strings.Cut(rest, "\n")
	_, tail, ends := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !begins || !ends {
		t.Fatalf("%s has no place for %s", path, name)
	}
	goldenAt(t, path, head+"<!-- "+name+":"+line+"\n\n"+want+"\n<!-- end of "+name+" -->"+tail)
}

// The example means what the flags' defaults mean: every key of it can be read,
// and the settings are those of the commands without flags.
func TestServiceExample(t *testing.T) {
	empty := write(t, "empty.yaml", nil)
	example, err := readServiceConfig(exampleFile, lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := readServiceConfig(empty, lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	if changed := example.file.Changed(nothing.file); len(changed) > 0 {
		t.Errorf("%v are not at their defaults", changed)
	}
	for _, section := range serviceSchema() {
		for _, key := range section.Keys {
			if example.file.Get(section.Name, key.Name).Line == 0 {
				t.Errorf("the example lacks %s.%s", section.Name, key.Name)
			}
		}
	}
	var f packetsFlags
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(flags)
	packets, err := f.settings(nil, lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	packets.pcap, example.packets.pcap = nil, nil // compiled
	if diff := cmp.Diff(packets, *example.packets, settingsOptions()); diff != "" {
		t.Errorf("packets: -flags +example:\n%s", diff)
	}
	var b blockFlags
	flags = pflag.NewFlagSet("test", pflag.ContinueOnError)
	b.register(flags)
	block, err := b.settings(lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(block, *example.block, settingsOptions(), cmp.AllowUnexported(blockSettings{})); diff != "" {
		t.Errorf("block: -flags +example:\n%s", diff)
	}
}

func settingsOptions() cmp.Option {
	return cmp.AllowUnexported(packetsSettings{}, runFlags{}, outputSettings{}, onlyRules{}, extrasSettings{}, nonSkbSettings{}, programFlags{}, guard.Limits{})
}

// Every flag of packets and block is a key, or is said to be none.
func TestServiceKeysOfFlags(t *testing.T) {
	schema := map[string]bool{}
	for _, section := range serviceSchema() {
		for _, key := range section.Keys {
			if schema[section.Name+"."+key.Name] {
				t.Errorf("%s.%s is there twice", section.Name, key.Name)
			}
			schema[section.Name+"."+key.Name] = true
			if key.Doc == "" || strings.Contains(key.Doc, "--") || strings.Contains(key.Doc, "`") && section.Name != sectionMetrics {
				t.Errorf("%s.%s: %q is no sentence of a file", section.Name, key.Name, key.Doc)
			}
		}
	}
	for section, flags := range newSectionFlags().sets {
		flags.VisitAll(func(flag *pflag.Flag) {
			name := section + "." + keyName(flag.Name)
			if export := exportKeys[flag.Name]; export != "" {
				name = sectionExport + "." + export
			}
			left := false
			for _, one := range notOfService {
				left = left || one == flag.Name
			}
			if schema[name] == left {
				t.Errorf("--%s of %s: key %s is there: %v", flag.Name, section, name, schema[name])
			}
			if kind := flag.Value.Type(); kind != "string" && kind != "endpoint" && keyOf(flag).Kind == config.Text {
				t.Errorf("--%s of %s is a %s, which no key can be", flag.Name, section, kind)
			}
		})
	}
}

// The schema for editors knows each key with the type that the reader wants.
func TestServiceJSONSchema(t *testing.T) {
	var schema struct {
		Additional *bool `json:"additionalProperties"`
		Properties map[string]struct {
			Additional *bool `json:"additionalProperties"`
			Properties map[string]struct {
				Type  any `json:"type"`
				AnyOf []struct {
					Type string `json:"type"`
				} `json:"anyOf"`
			} `json:"properties"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(read(t, schemaFile), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Additional == nil || *schema.Additional {
		t.Error("unknown sections are allowed")
	}
	// A value that is of the type, and must be read, and what the schema calls it.
	samples := map[string]string{"boolean": "false", "integer": "4096", "number": "0.5", "array": "[]", "object": "{}"}
	for name, section := range schema.Properties {
		if section.Additional == nil || *section.Additional {
			t.Errorf("unknown keys are allowed in %s", name)
		}
		for key, n := range section.Properties {
			kind, _ := n.Type.(string)
			if len(n.AnyOf) > 0 {
				kind = n.AnyOf[0].Type
			}
			sample := samples[kind]
			if sample == "" {
				sample = "10s" // a duration is a text
			}
			text := fmt.Sprintf("%s: {%s: %s}\n", name, key, sample)
			if _, err := config.Read("f", []byte(text), serviceSchema(), lookup(nil)); err != nil {
				t.Errorf("%s is right for editors: %v", strings.TrimSpace(text), err)
			}
			wrong := fmt.Sprintf("%s: {%s: {a: [b]}}\n", name, key)
			if _, err := config.Read("f", []byte(wrong), serviceSchema(), lookup(nil)); err == nil {
				t.Errorf("%s is read", strings.TrimSpace(wrong))
			}
		}
	}
	if base := filepath.Base(schemaFile); !strings.Contains(string(read(t, exampleFile)), "$schema="+base) {
		t.Errorf("the example does not name %s", base)
	}
}
