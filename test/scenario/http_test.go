//go:build vm

package scenario

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/test/truth"
)

// httpRequests, on kept and new connections, with bodies of up to 1 MB both ways.
func httpRequests(t *testing.T) httpRun {
	t.Helper()
	if series(t) == "5.10" {
		return fewHTTPRequests() // its kprobes are so slow that 200 take seven minutes
	}
	return httpRun{requests: 200, concurrency: 8, maxBytes: 1 << 20}
}

// fewHTTPRequests take less time, where the way is one that httpRequests goes as well.
func fewHTTPRequests() httpRun { return httpRun{requests: 60, concurrency: 8, maxBytes: 200_000} }

// TestHTTP has a client and a server of HTTP, whose requests are in spans of their
// own, and expects each packet to be tied to the spans of the request that it is of.
func TestHTTP(t *testing.T) {
	t.Run("helper", func(t *testing.T) {
		run := httpRequests(t)
		run.clientHelper, run.server.Helper = true, true
		_, v, packets := run.tracePackets(t, "--no-payload")
		checkRight(t, &run, v)
		checkRecall(t, v)
		checkSources(t, packets, "helper")
	})
	t.Run("client's helper", func(t *testing.T) {
		run := fewHTTPRequests()
		run.clientHelper = true
		_, v, packets := run.tracePackets(t)
		checkRight(t, &run, v)
		checkRecall(t, v)
		checkSources(t, packets, "helper", "payload")
	})
	t.Run("payload", func(t *testing.T) {
		run := httpRequests(t)
		_, v, packets := run.tracePackets(t)
		checkRight(t, &run, v)
		checkRecall(t, v)
		checkSources(t, packets, "payload")
	})
	t.Run("no payload", func(t *testing.T) {
		run := httpRun{requests: 10, concurrency: 2, maxBytes: 10_000}
		_, v, packets := run.tracePackets(t, "--no-payload")
		checkRight(t, &run, v)
		checkSources(t, packets)
	})
	t.Run("TLS", func(t *testing.T) {
		run := fewHTTPRequests()
		run.clientHelper, run.server.Helper = true, true
		run.server.Certificate = filepath.Join(t.TempDir(), "certificate")
		_, v, packets := run.tracePackets(t)
		checkRight(t, &run, v)
		checkRecall(t, v)
		checkSources(t, packets, "helper")
	})
	t.Run("hostile", func(t *testing.T) {
		run := httpRun{hostile: 2}
		_, v, packets := run.tracePackets(t)
		checkRight(t, &run, v)
		checkSources(t, packets, "payload")
	})
}

// checkSources expects the packets to be tied by certain sources, each of them and no
// other.
func checkSources(t *testing.T, packets []truth.Packet, want ...string) {
	t.Helper()
	found := map[string]bool{}
	for _, p := range packets {
		for _, l := range p.Links {
			found[l.Source] = true
		}
	}
	if diff := gocmp.Diff(want, slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}
