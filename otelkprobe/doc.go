// Package otelkprobe is imported by services that want otel-kprobe to know which of
// their spans a packet or block request belongs to. docs/applications.md says what to
// add to a service and what that ties.
//
// A service states where its spans start and end (package spanprocessor does it for
// the OpenTelemetry SDK) and which socket belongs to which span: NewTransport of
// connections that its HTTP requests use, Server of those that it answers on. A
// statement is a call of one function that does nothing. otel-kprobe puts a uprobe on
// it; where it does not run, a statement costs a few nanoseconds, and never a system
// call, privilege or network traffic.
//
// Only linux/amd64 has the registers in which otel-kprobe looks for the statement.
// Elsewhere everything here compiles and does nothing.
package otelkprobe
