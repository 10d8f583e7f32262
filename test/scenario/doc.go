// Package scenario proves otel-kprobe on the kernel that it runs on: real
// packets through real functions, and the spans held against what the sender,
// the wire and the kernel's own tracer say of the same packets.
//
// Its tests need root, tracefs and a machine of their own (they make network
// namespaces, load nftables rules and use the kernel's tracer), so they are
// built with the tag vm and run inside a virtual machine by test/kernels.sh:
//
//	test/kernels.sh --suite scenario 6.12
//
// The program under test is the one that the variable OTEL_KPROBE_BIN names.
// Nothing is skipped: where kernels differ, a table says what is expected of
// which kernel and why.
package scenario
