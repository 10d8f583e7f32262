package kernel

// CannotTraceError says that this kernel, or this process's place in it, does
// not let packets be traced. Its text is one sentence: what is missing and how
// to get it.
type CannotTraceError struct {
	Missing string // what is missing, as a clause
	Fix     string // how to get it, as a clause; may be empty
}

// Error returns the sentence.
func (e *CannotTraceError) Error() string {
	s := "cannot trace packets here: " + e.Missing
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}
