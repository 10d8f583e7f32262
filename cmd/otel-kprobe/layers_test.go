package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With --services-per-layer a line has a resource for each layer that the packet
// passed, and all spans that it has without.
func TestReplayLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	if diff := cmp.Diff(outcome{Stderr: summaryTo("file")}, command(t, "replay", "--services-per-layer", "--output", path, recordPing)); diff != "" {
		t.Fatal(diff)
	}
	type attribute struct {
		Key   string
		Value struct{ StringValue string }
	}
	spans, hosts := map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(read(t, path))) {
		var trace struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes []attribute }
				ScopeSpans []struct{ Spans []struct{ Name string } }
			}
		}
		if err := json.Unmarshal([]byte(line), &trace); err != nil {
			t.Fatal(err)
		}
		for _, r := range trace.ResourceSpans {
			for _, a := range r.Resource.Attributes {
				switch a.Key {
				case "service.name":
					spans[a.Value.StringValue] += len(r.ScopeSpans[0].Spans)
				case "host.name":
					hosts[a.Value.StringValue]++
				}
			}
		}
	}
	sum := 0
	for _, n := range spans {
		sum += n
	}
	if sum != 139 || spans["otel-kprobe"] != 4 || spans["kernel ip"] == 0 || spans["kernel wait"] != 4 || len(hosts) != 1 {
		t.Errorf("%d spans, want 139, by service %v, of hosts %v", sum, spans, hosts)
	}
}
