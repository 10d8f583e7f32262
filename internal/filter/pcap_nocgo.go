//go:build !cgo

package filter

import "golang.org/x/net/bpf"

// pcapCompile fails: without cgo there is no libpcap.
func pcapCompile(string, Layer) ([]bpf.RawInstruction, error) { return nil, ErrNoPcap }
