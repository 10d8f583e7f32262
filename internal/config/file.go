package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// Position is a place in a file. Line and Column count from 1; they are 0 where
// nothing of the file is meant.
type Position struct {
	File         string
	Line, Column int
}

// String gives file:line:column.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is a mistake of the file's author.
type Error struct {
	Position
	Err error
}

// Error gives one sentence that begins with the place.
func (e *Error) Error() string { return e.Position.String() + ": " + e.Err.Error() }

// Unwrap gives the mistake without its place.
func (e *Error) Unwrap() error { return e.Err }

// Value is what the file says of one key, or its default.
type Value struct {
	Position
	Text string            // of all kinds but List and Map
	List []string          // of a List
	Map  map[string]string // of a Map
}

// Equal says whether two values are the same, wherever they stand.
func (v *Value) Equal(o *Value) bool {
	return v.Text == o.Text && slices.Equal(v.List, o.List) && maps.Equal(v.Map, o.Map)
}

// File is a file that was read. Every key of the schema has a value.
type File struct {
	// Unset names the variables that were asked for without a default and are not
	// set: they gave nothing.
	Unset []string

	name     string
	schema   Schema
	sections map[string]Position
	values   map[string]*Value // by section.key
	getenv   func(string) string
}

// Read reads the content of a file of that name. getenv gives "" for what is not
// set. The error is an *Error.
func Read(name string, content []byte, schema Schema, getenv func(string) string) (*File, error) {
	f := &File{name: name, schema: schema, sections: map[string]Position{}, values: map[string]*Value{}, getenv: getenv}
	for _, section := range schema {
		for _, key := range section.Keys {
			f.values[section.Name+"."+key.Name] = &Value{Position: Position{File: name}, Text: key.Default}
		}
	}
	root, err := f.parse(content)
	if err != nil || root == nil {
		return f, err
	}
	err = f.eachKey(root, func(key, value *yaml.Node) error {
		section := schema.section(key.Value)
		if section == nil {
			return f.errorf(key, "unknown section %q: there are %s", key.Value, names(schema, func(s Section) string { return s.Name }))
		}
		f.sections[section.Name] = f.at(key)
		return f.readSection(section, value)
	})
	return f, err
}

// parse gives the mapping of the only document, nil when the file says nothing.
func (f *File) parse(content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, f.syntaxError(err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, f.syntaxError(err)
		}
		return nil, f.errorf(&second, "a second document begins: the file may have one only")
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil, nil
	}
	return document.Content[0], nil
}

// syntaxError gives what the parser says its place.
func (f *File) syntaxError(err error) error {
	p := Position{File: f.name}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		err = errors.New(load.Message)
		if load.Mark.Line > 0 {
			p.Line, p.Column = load.Mark.Line, load.Mark.Column
		}
	}
	return &Error{p, fmt.Errorf("read YAML: %w", err)}
}

func (f *File) at(n *yaml.Node) Position { return Position{f.name, n.Line, n.Column} }

func (f *File) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{f.at(n), fmt.Errorf(format, args...)}
}

// eachKey visits the keys of a mapping, each of which stands there once.
func (f *File) eachKey(n *yaml.Node, visit func(key, value *yaml.Node) error) error {
	if n = resolved(n); n.Kind != yaml.MappingNode {
		return f.errorf(n, "a mapping of names to values is wanted here, not %s", described(n))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return f.errorf(key, "a name is wanted here, not %s", described(key))
		case seen[key.Value]:
			return f.errorf(key, "%q stands here twice", key.Value)
		}
		seen[key.Value] = true
		if err := visit(key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// readSection reads the keys of a section. One without content has its defaults.
func (f *File) readSection(section *Section, n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	return f.eachKey(n, func(name, n *yaml.Node) error {
		key := section.key(name.Value)
		if key == nil {
			return f.errorf(name, "unknown key %q: section %s has %s",
				name.Value, section.Name, names(section.Keys, func(k Key) string { return k.Name }))
		}
		value := Value{Position: f.at(n), Text: key.Default}
		if !isNull(n) {
			if err := f.readValue(key, resolved(n), &value); err != nil {
				return err
			}
		}
		f.values[section.Name+"."+key.Name] = &value
		return nil
	})
}

func names[T any](all []T, name func(T) string) string {
	list := make([]string, 0, len(all))
	for _, one := range all {
		list = append(list, name(one))
	}
	return strings.Join(list, ", ")
}

// Get is the value of a key of the schema; it panics for another one.
func (f *File) Get(section, key string) *Value {
	value := f.values[section+"."+key]
	if value == nil {
		panic("config: the schema has no " + section + "." + key)
	}
	return value
}

// Bool is a value of kind Bool.
func (f *File) Bool(section, key string) bool { return f.Get(section, key).Text == "true" }

// At is where a key has its value, or else where its section begins, or else the
// file. An empty key means the section.
func (f *File) At(section, key string) Position {
	if v := f.values[section+"."+key]; v != nil && v.Line > 0 {
		return v.Position
	}
	if p, ok := f.sections[section]; ok {
		return p
	}
	return Position{File: f.name}
}

// Changed gives section.key of all that another file of the same schema has
// otherwise, in the order of the schema.
func (f *File) Changed(o *File) []string {
	var all []string
	for _, section := range f.schema {
		for _, key := range section.Keys {
			if !f.Get(section.Name, key.Name).Equal(o.Get(section.Name, key.Name)) {
				all = append(all, section.Name+"."+key.Name)
			}
		}
	}
	return all
}
