package config

// Kind is what a value is.
type Kind int

// The kinds of values.
const (
	Bool     Kind = iota // true or false
	Int                  // a whole number, not negative
	Percent              // a number, not negative
	Text                 // a string; a number stands for its digits
	Duration             // a string like 1m30s
	List                 // a sequence of Text
	Map                  // a mapping of names to Text
)

// String gives the word of the documents.
func (k Kind) String() string {
	return [...]string{"true or false", "number", "percentage", "text", "duration", "list", "map"}[k]
}

// Key is one setting of a section.
type Key struct {
	Name    string
	Kind    Kind
	Default string // as it is written in the file; of a List or Map, "" for none
	Doc     string // what it does, in one line
}

// Section is a mapping of the file.
type Section struct {
	Name string
	Doc  string
	Keys []Key
}

// Schema is all that a file may have.
type Schema []Section

// section finds a section by its name, nil without.
func (s Schema) section(name string) *Section {
	for i := range s {
		if s[i].Name == name {
			return &s[i]
		}
	}
	return nil
}

// key finds a key by its name, nil without.
func (s *Section) key(name string) *Key {
	for i := range s.Keys {
		if s.Keys[i].Name == name {
			return &s.Keys[i]
		}
	}
	return nil
}
