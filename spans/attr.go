package spans

// AttrType says which member of an Attr holds its value.
type AttrType uint8

// The types of attribute values.
const (
	TypeString AttrType = iota + 1 // Str
	TypeInt                        // Int
	TypeBool                       // Int: 0 or 1
	TypeHex                        // Int as 16 hexadecimal digits; a string to the receiver
	TypeList                       // a list of strings, see Trace.List
	TypeDouble                     // only in a Resource
)

// Attr is one attribute: a key of the closed table of docs/spans.md and a typed
// value. It holds no interface, so making one allocates nothing.
type Attr struct {
	Key  Key
	Type AttrType
	Int  int64
	Str  string
}

// StringAttr makes an attribute with a string value.
func StringAttr(k Key, v string) Attr { return Attr{Key: k, Type: TypeString, Str: v} }

// IntAttr makes an attribute with a whole number.
func IntAttr(k Key, v int64) Attr { return Attr{Key: k, Type: TypeInt, Int: v} }

// BoolAttr makes an attribute with a truth value.
func BoolAttr(k Key, v bool) Attr {
	a := Attr{Key: k, Type: TypeBool}
	if v {
		a.Int = 1
	}
	return a
}

// HexAttr makes a string attribute of the 16 hexadecimal digits of v.
func HexAttr(k Key, v uint64) Attr { return Attr{Key: k, Type: TypeHex, Int: int64(v)} }

// ListAttr makes an attribute with a list of strings, whose elements the trace
// keeps.
func (t *Trace) ListAttr(k Key, v ...string) Attr {
	from := len(t.strings)
	t.strings = append(t.strings, v...)
	return listAttr(k, from, len(v))
}

// listAttr refers to n strings of a trace from an index on.
func listAttr(k Key, from, n int) Attr {
	return Attr{Key: k, Type: TypeList, Int: int64(from)<<32 | int64(n)}
}

// List returns the elements of an attribute of TypeList.
func (t *Trace) List(a Attr) []string {
	from, n := int(a.Int>>32), int(a.Int&(1<<32-1))
	if a.Type != TypeList || from+n > len(t.strings) {
		return nil
	}
	return t.strings[from : from+n]
}
