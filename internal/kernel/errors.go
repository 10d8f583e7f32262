package kernel

// CannotTraceError says that this kernel, or this process's place in it, does
// not let packets, or What else, be traced. Its text is one sentence: what is
// missing and how to get it.
type CannotTraceError struct {
	What    string // what cannot be traced; "" means packets
	Missing string // what is missing, as a clause
	Fix     string // how to get it, as a clause; may be empty
}

// Error returns the sentence.
func (e *CannotTraceError) Error() string {
	what := e.What
	if what == "" {
		what = "packets"
	}
	s := "cannot trace " + what + " here: " + e.Missing
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}
