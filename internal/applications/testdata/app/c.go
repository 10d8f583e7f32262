//go:build cgo

package main

// int answer(void) { return 42; }
import "C"

// With C in it the program begins with code that is not Go's.
var _ = C.answer()
