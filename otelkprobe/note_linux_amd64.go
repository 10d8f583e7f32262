package otelkprobe

import "runtime"

// supported says whether otel-kprobe understands this platform's statements.
const supported = true

// noteV1 is where otel-kprobe listens: its name, the order of its arguments and the
// registers of Go's ABI (RAX, RBX, RCX, RDI, RSI, R8, and the goroutine in R14) are
// the interface (https://go.dev/s/regabi). One with another meaning gets another name.
//
// The frame makes `push %rbp` the first instruction, and nosplit keeps the check of
// the stack from going before it: that instruction the kernel emulates at a uprobe,
// where an empty function's `ret` would be executed elsewhere and trap once more
// (push_setup_xol_ops in
// https://github.com/torvalds/linux/blob/v6.12/arch/x86/kernel/uprobes.c).
//
//go:noinline
//go:nosplit
func noteV1(what, traceHigh, traceLow, span, parent, fd uint64) {
	var frame byte
	runtime.KeepAlive(&frame)
}
