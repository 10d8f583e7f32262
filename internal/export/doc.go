// Package export carries finished traces out of the program: to an OTLP
// receiver, to a file of OTLP/JSON lines, or to a terminal. It also writes the
// latencies of block requests as histograms, and what a run came to.
//
// Every exporter is used the same way: one goroutine calls Export for each
// trace, then Shutdown once. An Export never waits for the network; what cannot
// be kept is given up and counted. After Shutdown the counters of Stats say of
// each span what became of it.
package export
