//go:build cgo

package filter

// #cgo LDFLAGS: -l:libpcap.a
// #include <stdlib.h>
// #include "pcap_shim.h"
import "C"

import (
	"errors"
	"unsafe"

	"golang.org/x/net/bpf"
)

// Link types of libpcap, see https://www.tcpdump.org/linktypes.html; the raw
// one is DLT_RAW's value on Linux.
const (
	linkEthernet = 1
	linkRaw      = 12
)

// pcapCompile has libpcap compile expr for the link type of a layer. The error
// is libpcap's message and nothing else.
func pcapCompile(expr string, l Layer) ([]bpf.RawInstruction, error) {
	link := C.int(linkEthernet)
	if l == L3 {
		link = linkRaw
	}
	cexpr := C.CString(expr)
	defer C.free(unsafe.Pointer(cexpr))

	var prog C.struct_bpf_program
	var msg [C.PCAP_ERRBUF_SIZE]C.char
	if C.filter_compile(link, cexpr, &prog, &msg[0]) != 0 {
		return nil, errors.New(C.GoString(&msg[0]))
	}
	defer C.pcap_freecode(&prog)

	insns := unsafe.Slice(prog.bf_insns, int(prog.bf_len))
	raw := make([]bpf.RawInstruction, len(insns))
	for i, ins := range insns {
		raw[i] = bpf.RawInstruction{
			Op: uint16(ins.code),
			Jt: uint8(ins.jt),
			Jf: uint8(ins.jf),
			K:  uint32(ins.k),
		}
	}
	return raw, nil
}
