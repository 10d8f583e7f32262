// Package spans turns finished journeys into spans and spans into OTLP.
//
// A [Builder] maps one journey to one [Trace]: a root span for the packet and
// one span per frame below it, nested as the kernel called them. It is a pure
// function of the journey and its [Options]: it reads no clock, draws no random
// numbers and touches neither BPF nor the network, so the same journey gives
// the same bytes on any machine. What every span and attribute means is in
// docs/spans.md.
//
// A Trace is encoded once, straight to bytes: [AppendOTLP] to the protobuf form
// that a Collector receives, [AppendJSON] to an OTLP/JSON line.
package spans
