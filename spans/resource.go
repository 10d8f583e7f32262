package spans

// Resource says what made the spans: service.name, host.id, os.type … .
type Resource struct {
	Attrs     []ResourceAttr
	SchemaURL string
}

// ResourceAttr is an attribute of a resource. Keys are free here, because they
// come from the environment of the user.
type ResourceAttr struct {
	Key  string
	Type AttrType // TypeString, TypeInt, TypeBool, TypeDouble or TypeList
	Str  string
	Int  int64
	Dbl  float64
	List []string
}

// Scope names the library that made the spans.
type Scope struct {
	Name      string // the module path
	Version   string
	SchemaURL string
}
