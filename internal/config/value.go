package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

// readValue reads a value that is no null.
func (f *File) readValue(key *Key, n *yaml.Node, v *Value) error {
	switch key.Kind {
	case List:
		return f.readList(key, n, v)
	case Map:
		return f.readMap(key, n, v)
	default:
		text, err := f.scalar(key.Name, key.Kind, n)
		if err == nil && text == "" {
			text = key.Default // as of a variable that is not set
		}
		v.Text = text
		return err
	}
}

func (f *File) readList(key *Key, n *yaml.Node, v *Value) error {
	if n.Kind != yaml.SequenceNode {
		return f.errorf(n, "%s wants a list, like [a, b], not %s", key.Name, described(n))
	}
	for _, item := range n.Content {
		text, err := f.scalar("an item of "+key.Name, Text, resolved(item))
		if err != nil {
			return err
		}
		if text != "" {
			v.List = append(v.List, text)
		}
	}
	return nil
}

func (f *File) readMap(key *Key, n *yaml.Node, v *Value) error {
	v.Map = map[string]string{}
	return f.eachKey(n, func(name, n *yaml.Node) error {
		text, err := f.scalar(key.Name+"."+name.Value, Text, resolved(n))
		v.Map[name.Value] = text
		return err
	})
}

// scalar gives the text of a scalar with its variables put in, checked by kind.
// What comes out of variables is taken as if it stood in the file.
func (f *File) scalar(name string, kind Kind, n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", f.errorf(n, "%s wants %s, not %s", name, wanted(kind), described(n))
	}
	text, err := f.expand(n.Value)
	if err != nil {
		return "", f.errorf(n, "%s: %w", name, err)
	}
	if text != n.Value {
		n = reread(n, text)
		if text == "" {
			return "", nil
		}
	}
	if !fits(kind, n.ShortTag(), text) {
		return "", f.errorf(n, "%s wants %s, not %s", name, wanted(kind), described(n))
	}
	return text, nil
}

// reread gives a scalar another text. One without quotes may then be of another type.
func reread(n *yaml.Node, text string) *yaml.Node {
	next := *n
	next.Value = text
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0 {
		next.Tag = plainTag(text)
	}
	return &next
}

// plainTag is the type of a scalar without quotes.
func plainTag(text string) string {
	var value any
	n := yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if err := n.Decode(&value); err != nil {
		return "!!str"
	}
	switch value.(type) {
	case nil:
		return "!!null"
	case bool:
		return "!!bool"
	case int, int64, uint64:
		return "!!int"
	case float64:
		return "!!float"
	case time.Time:
		return "!!timestamp"
	}
	return "!!str"
}

// fits says whether a scalar of that tag can be of a kind.
func fits(kind Kind, tag, text string) bool {
	switch kind {
	case Bool:
		return tag == "!!bool" && (text == "true" || text == "false")
	case Int:
		_, err := strconv.ParseUint(text, 10, 63)
		return tag == "!!int" && err == nil
	case Percent:
		n, err := strconv.ParseFloat(text, 64)
		return (tag == "!!int" || tag == "!!float") && err == nil && n >= 0 && !math.IsInf(n, 0)
	case Duration:
		_, err := time.ParseDuration(text)
		return err == nil && (tag == "!!str" || text == "0")
	default:
		return slices.Contains([]string{"!!str", "!!int", "!!float", "!!timestamp"}, tag)
	}
}

func wanted(kind Kind) string {
	switch kind {
	case Bool:
		return "true or false"
	case Int:
		return "a whole number"
	case Percent:
		return "a percentage, like 20 or 0.5"
	case Duration:
		return "a duration, like 500ms or 1m30s"
	default:
		return "text"
	}
}

// described says what a node is.
func described(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("the text %q", n.Value)
	}
	return n.Value
}

// resolved follows an alias to what it stands for.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// variable is what may stand between ${ and }, as the Collector has it
// (https://opentelemetry.io/docs/collector/configuration/#environment-variables).
var variable = regexp.MustCompile(`^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?$`)

const variableForm = "write ${NAME} or ${NAME:-DEFAULT}, and $$ for a dollar sign"

// expand puts variables of the environment in: ${NAME}, ${env:NAME}, and with
// :-DEFAULT what stands for one that is not set or empty. $$ is one $.
func (f *File) expand(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			b.WriteByte('$')
			text = rest
			continue
		}
		inner, after, closed := strings.Cut(rest[1:], "}")
		parts := variable.FindStringSubmatch(inner)
		switch {
		case !closed:
			return "", fmt.Errorf("${%s has no }: %s", inner, variableForm)
		case parts == nil:
			return "", fmt.Errorf("${%s} is no variable: %s", inner, variableForm)
		}
		b.WriteString(f.variable(parts[1], parts[2] != "", parts[3]))
		text = after
	}
}

// variable is the value of a variable, or its default.
func (f *File) variable(name string, hasDefault bool, otherwise string) string {
	value := f.getenv(name)
	switch {
	case value != "":
		return value
	case !hasDefault && !slices.Contains(f.Unset, name):
		f.Unset = append(f.Unset, name)
	}
	return otherwise
}
