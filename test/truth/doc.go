// Package truth knows which HTTP request each TCP packet belongs to, without asking
// the kernel or otel-kprobe, and judges what otel-kprobe says of the same packets.
//
// A client and a server count the bytes of each connection below HTTP and TLS, and
// log where each request and each answer begins and ends in them (Log). A packet's
// sequence numbers tell which of these bytes it carries, those of its acknowledgement
// number which it acknowledges (Truth.Judge). Both programs are roles of a test binary
// (Main), so that uprobes have an executable of its own to be put on.
package truth
