// Package applications finds the running programs that tell of their spans: Go
// programs with a function of a given name (package otelkprobe's), and where in its
// file that function begins, which is what a uprobe needs.
//
// Files of strangers are read here. debug/elf and debug/gosym are not made for that
// (https://pkg.go.dev/debug/elf#hdr-Security), so that the few tables that matter are
// read here, in constant memory and with bounds for everything that a file says.
package applications
