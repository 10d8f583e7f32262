// Package bpf holds the kernel programs (*.bpf.c and their headers), what
// bpf2go made of them, and the decoder of their records. It alone knows the C
// layout; above it only internal/event exists.
//
// There are two objects of the same sources. The session object serves Linux
// 6.10 and newer: one program sees entry and return of a function, and reads
// kernel memory with plain loads. The classic object serves the older kernels
// and the backends without sessions.
package bpf
