// Package bench holds the benchmarks that span packages: what a frame costs
// from its event to the receiver, beside the same spans made with the
// OpenTelemetry SDK, in one run on one machine. It has no code of its own.
//
//	go test -run - -bench . ./internal/bench
package bench
