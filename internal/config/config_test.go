package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// schema has a key of each kind.
func schema() Schema {
	return Schema{
		{Name: "one", Doc: "The first section.", Keys: []Key{
			{Name: "on", Kind: Bool, Default: "true", Doc: "whether it is on"},
			{Name: "size", Kind: Int, Default: "16", Doc: "how large | in bytes"},
			{Name: "text", Kind: Text, Doc: "what it says"},
			{Name: "every", Kind: Duration, Default: "30s", Doc: strings.Repeat("a long explanation ", 10)},
		}},
		{Name: "two", Doc: "The second.\nIn two lines.", Keys: []Key{
			{Name: "names", Kind: List, Doc: "names"},
			{Name: "pairs", Kind: Map, Doc: "pairs"},
		}},
	}
}

func environment(name string) string {
	return map[string]string{"SIZE": "32", "WORD": "word", "ON": "false", "COLON": "a: b", "DOLLAR": "$$"}[name]
}

func TestRead(t *testing.T) {
	type values map[string]Value
	for _, c := range []struct {
		name, text string
		want       values // text, list and map of those without their default
		unset      []string
	}{
		{name: "empty"},
		{name: "a comment", text: "# nothing\n"},
		{name: "nothing in a section", text: "one:\ntwo: ~\n"},
		{name: "nothing as a value", text: "one: {on: , size: ~, text: null}\n"},
		{
			name: "every kind", text: "one: {on: false, size: 1, text: a b, every: 1m}\ntwo: {names: [a, 7, 8:0], pairs: {x: y, z: 1}}\n",
			want: values{
				"one.on": {Text: "false"}, "one.size": {Text: "1"}, "one.text": {Text: "a b"}, "one.every": {Text: "1m"},
				"two.names": {List: []string{"a", "7", "8:0"}}, "two.pairs": {Map: map[string]string{"x": "y", "z": "1"}},
			},
		},
		{name: "a number for text", text: "one: {text: 0x10}\n", want: values{"one.text": {Text: "0x10"}}},
		{name: "a date for text", text: "one: {text: 2026-01-02}\n", want: values{"one.text": {Text: "2026-01-02"}}},
		{name: "off is text", text: "one: {text: off}\n", want: values{"one.text": {Text: "off"}}},
		{name: "quoted true is text", text: `one: {text: "true"}`, want: values{"one.text": {Text: "true"}}},
		{name: "anchors", text: "one: {text: &a word}\ntwo: {names: [*a]}\n", want: values{
			"one.text": {Text: "word"}, "two.names": {List: []string{"word"}},
		}},
		{
			name: "variables", text: "one:\n  on: ${ON}\n  size: ${SIZE}\n  text: a ${env:WORD} ${NO:-none} $$ $ $WORD\ntwo:\n  names:\n  - \"${WORD}\"\n",
			want: values{
				"one.on": {Text: "false"}, "one.size": {Text: "32"}, "one.text": {Text: "a word none $ $ $WORD"}, "two.names": {List: []string{"word"}},
			},
		},
		{name: "a variable with a colon is text", text: "one:\n  text: ${COLON}\n", want: values{"one.text": {Text: "a: b"}}},
		{name: "what a variable has is not expanded", text: "one:\n  text: ${DOLLAR}\n", want: values{"one.text": {Text: "$$"}}},
		{
			name: "variables that are not set", text: "one:\n  size: ${NO}\n  text: ${NO}\ntwo: {names: [\"${NOR}\", a]}\n",
			want: values{"two.names": {List: []string{"a"}}}, unset: []string{"NO", "NOR"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Read("f.yaml", []byte(c.text), schema(), environment)
			if err != nil {
				t.Fatal(err)
			}
			got := values{}
			for name, v := range f.values {
				section, key, _ := strings.Cut(name, ".")
				if def := schema().section(section).key(key); !v.Equal(&Value{Text: def.Default}) {
					got[name] = Value{Text: v.Text, List: v.List, Map: v.Map}
				}
			}
			if c.want == nil {
				c.want = values{}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.unset, f.Unset); diff != "" {
				t.Errorf("unset: -want +got:\n%s", diff)
			}
		})
	}
}

// Every mistake is one sentence with its place.
func TestReadErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "one: [a\ntwo: b\n", "f.yaml:2:4: read YAML: did not find expected ',' or ']'"},
		{"tab", "one:\n\ton: true\n", "f.yaml:2:1: read YAML: found character that cannot start any token"},
		{"no mapping", "- a\n", "f.yaml:1:1: a mapping of names to values is wanted here, not a list"},
		{"text alone", "hello\n", `f.yaml:1:1: a mapping of names to values is wanted here, not the text "hello"`},
		{"two documents", "one: {}\n---\ntwo: {}\n", "f.yaml:2:1: a second document begins: the file may have one only"},
		{"section", "one: {}\nthree: {}\n", `f.yaml:2:1: unknown section "three": there are one, two`},
		{"section with a value", "one: 7\n", "f.yaml:1:6: a mapping of names to values is wanted here, not 7"},
		{"key", "two:\n  nams: []\n", `f.yaml:2:3: unknown key "nams": section two has names, pairs`},
		{"twice", "one:\n  on: true\n  on: false\n", `f.yaml:3:3: "on" stands here twice`},
		{"section twice", "one: {}\none: {}\n", `f.yaml:2:1: "one" stands here twice`},
		{"a list as a name", "[a]: b\n", "f.yaml:1:1: a name is wanted here, not a list"},
		{"bool", "one:\n  on: yes\n", `f.yaml:2:7: on wants true or false, not the text "yes"`},
		{"bool in quotes", "one:\n  on: \"true\"\n", `f.yaml:2:7: on wants true or false, not the text "true"`},
		{"number", "one:\n  size: -1\n", "f.yaml:2:9: size wants a whole number, not -1"},
		{"fraction", "one:\n  size: 1.5\n", "f.yaml:2:9: size wants a whole number, not 1.5"},
		{"duration", "one:\n  every: 30\n", "f.yaml:2:10: every wants a duration, like 500ms or 1m30s, not 30"},
		{"bool for text", "one:\n  text: true\n", "f.yaml:2:9: text wants text, not true"},
		{"list for text", "one:\n  text: [a]\n", "f.yaml:2:9: text wants text, not a list"},
		{"text for list", "two:\n  names: a\n", `f.yaml:2:10: names wants a list, like [a, b], not the text "a"`},
		{"list in list", "two:\n  names: [[a]]\n", "f.yaml:2:11: an item of names wants text, not a list"},
		{"list for map", "two:\n  pairs: [a]\n", "f.yaml:2:10: a mapping of names to values is wanted here, not a list"},
		{"bool in map", "two:\n  pairs: {a: true}\n", "f.yaml:2:14: pairs.a wants text, not true"},
		{"bad variable", "one:\n  text: a ${b c}\n", "f.yaml:2:9: text: ${b c} is no variable: write ${NAME} or ${NAME:-DEFAULT}, and $$ for a dollar sign"},
		{"open variable", "one:\n  text: a ${b\n", "f.yaml:2:9: text: ${b has no }: write ${NAME} or ${NAME:-DEFAULT}, and $$ for a dollar sign"},
		{"quoted variable", "one:\n  size: \"${SIZE}\"\n", `f.yaml:2:9: size wants a whole number, not the text "32"`},
		{"variable of another type", "one:\n  size: ${WORD}\n", `f.yaml:2:9: size wants a whole number, not the text "word"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read("f.yaml", []byte(c.text), schema(), environment)
			var place *Error
			if !errors.As(err, &place) {
				t.Fatalf("%v is no *Error", err)
			}
			if err.Error() != c.want {
				t.Errorf("\n got %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	read := func(text string) *File {
		f, err := Read("f.yaml", []byte(text), schema(), environment)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a := read("one: {on: true, text: a}\ntwo: {names: [x]}\n")
	if diff := cmp.Diff([]string(nil), read("two: {names: [x]}\n\n\none: {text: a}\n").Changed(a)); diff != "" {
		t.Error(diff)
	}
	b := read("one: {on: false}\ntwo: {names: [x], pairs: {a: b}}\n")
	if diff := cmp.Diff([]string{"one.on", "one.text", "two.pairs"}, b.Changed(a)); diff != "" {
		t.Error(diff)
	}
	if got := b.At("one", "on").String(); got != "f.yaml:1:11" {
		t.Error(got)
	}
	if got := b.At("one", "text").String(); got != "f.yaml:1:1" {
		t.Errorf("a key with its default is at its section, not at %s", got)
	}
	if got := read("").At("one", "on").String(); got != "f.yaml" {
		t.Error(got)
	}
}

// The example says nothing but the defaults, in lines that can be read.
func TestExample(t *testing.T) {
	text := schema().Example("What the file is.")
	f, err := Read("example", []byte(text), schema(), environment)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	empty, err := Read("empty", nil, schema(), environment)
	if err != nil {
		t.Fatal(err)
	}
	if changed := f.Changed(empty); len(changed) > 0 {
		t.Errorf("%v are not at their defaults in\n%s", changed, text)
	}
	for _, section := range schema() {
		for _, key := range section.Keys {
			if f.Get(section.Name, key.Name).Line == 0 {
				t.Errorf("the example lacks %s.%s", section.Name, key.Name)
			}
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if len(line) > exampleWidth {
			t.Errorf("%q is longer than %d", line, exampleWidth)
		}
	}
}

// Whatever stands in a file, the answer is a file with every value or a mistake
// with its place, and the place lies in the file.
func FuzzRead(f *testing.F) {
	f.Add("one: {on: false, size: ${SIZE}, text: ${env:WORD:-a}}\ntwo: {names: [a, *b], pairs: {x: y}}\n")
	f.Add("one: &a {text: b}\ntwo: *a\n")
	f.Add("a: &a [*a]\n")
	f.Add("---\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Read("f", []byte(text), schema(), environment)
		var place *Error
		switch {
		case err == nil:
			for _, section := range schema() {
				for _, key := range section.Keys {
					v := file.Get(section.Name, key.Name)
					if key.Kind != List && key.Kind != Map && !fits(key.Kind, tagOf(key.Kind, v.Text), v.Text) {
						t.Errorf("%s.%s is %q", section.Name, key.Name, v.Text)
					}
				}
			}
		case !errors.As(err, &place):
			t.Errorf("%v has no place", err)
		case place.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+strings.Count(text, "\u0085")+strings.Count(text, "\u2028")+strings.Count(text, "\u2029")+2:
			t.Errorf("%v is beyond the end", err)
		}
	})
}

// tagOf is the type that text has as a plain scalar.
func tagOf(kind Kind, text string) string {
	if kind == Text {
		return "!!str"
	}
	return plainTag(text)
}
