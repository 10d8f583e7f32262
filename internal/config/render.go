package config

import (
	"encoding/json"
	"fmt"
	"strings"
)

// exampleWidth is how long the lines of comments are.
const exampleWidth = 88

// Example is a file with every key at its default, and comments.
func (s Schema) Example(head string) string {
	var b strings.Builder
	comment(&b, "", head)
	for _, section := range s {
		b.WriteByte('\n')
		comment(&b, "", section.Doc)
		fmt.Fprintf(&b, "%s:\n", section.Name)
		for _, key := range section.Keys {
			comment(&b, "  ", key.Doc)
			fmt.Fprintf(&b, "  %s: %s\n", key.Name, key.yaml())
		}
	}
	return b.String()
}

// yaml is the default as it stands in a file.
func (k *Key) yaml() string {
	switch {
	case k.Kind == List:
		return "[]"
	case k.Kind == Map:
		return "{}"
	case k.Default == "":
		return `""`
	}
	return k.Default
}

// comment writes text as lines of comments. A line break in it stays.
func comment(b *strings.Builder, indent, text string) {
	for _, paragraph := range strings.Split(text, "\n") {
		line := indent + "#"
		for _, word := range strings.Fields(paragraph) {
			if len(line)+1+len(word) > exampleWidth {
				fmt.Fprintln(b, line)
				line = indent + "#"
			}
			line += " " + word
		}
		fmt.Fprintln(b, line)
	}
}

// Markdown is the table of the documents.
func (s Schema) Markdown() string {
	var b strings.Builder
	b.WriteString("| key | value | default | what it does |\n|---|---|---|---|\n")
	for _, section := range s {
		for _, key := range section.Keys {
			fmt.Fprintf(&b, "| `%s.%s` | %s | `%s` | %s |\n", section.Name, key.Name, key.Kind, key.yaml(),
				strings.ReplaceAll(key.Doc, "|", `\|`))
		}
	}
	return b.String()
}

// node is a JSON schema, as far as one is needed.
type node struct {
	Schema      string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        any              `json:"type,omitempty"`
	Pattern     string           `json:"pattern,omitempty"`
	Default     any              `json:"default,omitempty"`
	Minimum     *int             `json:"minimum,omitempty"`
	Items       *node            `json:"items,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Additional  any              `json:"additionalProperties,omitempty"`
	AnyOf       []*node          `json:"anyOf,omitempty"`
}

// closed is additionalProperties of a mapping that has no others.
var closed any = json.RawMessage("false")

// reference matches a value that is read from the environment.
const reference = `\$\{`

// JSONSchema describes the file to editors
// (https://json-schema.org/draft/2020-12/schema).
func (s Schema) JSONSchema(title string) ([]byte, error) {
	root := &node{
		Schema: "https://json-schema.org/draft/2020-12/schema", Title: title,
		Type: "object", Properties: map[string]*node{}, Additional: closed,
	}
	for _, section := range s {
		n := &node{Description: section.Doc, Type: []string{"object", "null"}, Properties: map[string]*node{}, Additional: closed}
		for _, key := range section.Keys {
			n.Properties[key.Name] = key.schema()
		}
		root.Properties[section.Name] = n
	}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON schema: %w", err)
	}
	return append(text, '\n'), nil
}

// schema describes one key. In place of each value a variable may stand.
func (k *Key) schema() *node {
	n := &node{Description: k.Doc}
	text := &node{Type: []string{"string", "number"}}
	switch k.Kind {
	case Bool:
		n.Default = k.Default == "true"
		n.AnyOf = []*node{{Type: "boolean"}, {Type: "string", Pattern: reference}}
	case Int:
		n.Default = json.Number(k.Default)
		n.AnyOf = []*node{{Type: "integer", Minimum: new(int)}, {Type: "string", Pattern: reference}}
	case Percent:
		n.Default = json.Number(k.Default)
		n.AnyOf = []*node{{Type: "number", Minimum: new(int)}, {Type: "string", Pattern: reference}}
	case Duration:
		n.Default = k.Default
		n.AnyOf = []*node{{Type: "string", Pattern: `^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$|` + reference}, {Type: "integer", Minimum: new(int)}}
	case List:
		n.Type, n.Items = "array", text
	case Map:
		n.Type, n.Additional = "object", text
	case Text:
		n.Default = k.Default
		n.Type = text.Type
	}
	return n
}
