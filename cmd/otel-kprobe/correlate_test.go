package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recordRequest is a recording of a request and its answer, with the spans of client and
// server, see test/e2e.
const recordRequest = "../../test/e2e/testdata/app.okrec"

const (
	requestTraceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	requestSpanID  = "00f067aa0ba902b7"
)

// TestReplayFull expects the traces themselves and, in the application's trace, those
// of its packets once more: whole, below a summary, and nowhere on the console.
func TestReplayFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	linked := command(t, "replay", "--output", path, recordRequest)
	before := readSpans(t, path)
	full := command(t, "replay", "--correlate", "full", "--exporter", "console,file", "--format", "json", "--output", path, recordRequest)
	want := "509 frames, 10 traces, 706 spans (172 copies); exported 706 to file, 534 to console; nothing lost\n"
	if linked.Status != exitOK || full.Status != exitOK || full.Stderr != want {
		t.Fatalf("%s%s, want %s", linked.Stderr, full.Stderr, want)
	}
	var traces, app []jsonSpan
	for _, s := range readSpans(t, path) {
		if s.TraceID == requestTraceID {
			app = append(app, s)
		} else {
			traces = append(traces, s)
		}
	}
	if diff := cmp.Diff(before, traces); diff != "" {
		t.Errorf("the traces themselves have changed (-want +got):\n%s", diff)
	}
	checkAppTrace(t, app, 3)
	checkConsole(t, full.Stdout, len(before)+2)
}

// TestReplayFullLimited expects no copy without its summary where a limit ends the run
// before the recording does.
func TestReplayFullLimited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	got := command(t, "replay", "--correlate", "full", "--limit-traces", "2", "--output", path, recordRequest)
	if got.Status != exitOK || !strings.Contains(got.Stderr, " 2 traces, 177 spans (61 copies); ") {
		t.Errorf("%+v", got)
	}
	var app []jsonSpan
	for _, s := range readSpans(t, path) {
		if s.TraceID == requestTraceID {
			app = append(app, s)
		}
	}
	checkAppTrace(t, app, 1)
}

// checkAppTrace expects so many packets below summaries below the application's span,
// and no span without its parent.
func checkAppTrace(t *testing.T, app []jsonSpan, packets int) {
	t.Helper()
	ids := map[string]jsonSpan{}
	for _, s := range app {
		if _, taken := ids[s.SpanID]; taken {
			t.Errorf("two spans have the id %s", s.SpanID)
		}
		ids[s.SpanID] = s
	}
	roots := 0
	for _, s := range app {
		parent, ok := ids[s.ParentSpanID]
		summary := s.Name == "packets sent" || s.Name == "packets read"
		switch {
		case summary && s.ParentSpanID != requestSpanID, !summary && !ok:
			t.Errorf("%s is below %s", s.Name, s.ParentSpanID)
		case !summary && (s.Start < parent.Start || s.End > parent.End):
			t.Errorf("%s from %s to %s sticks out of %s, from %s to %s", s.Name, s.Start, s.End, parent.Name, parent.Start, parent.End)
		case strings.HasPrefix(s.Name, "packet tx"):
			roots++
		}
	}
	if roots != packets {
		t.Errorf("%d packets are copied, want %d", roots, packets)
	}
}

// checkConsole expects so many spans, of the application's trace only summaries.
func checkConsole(t *testing.T, text string, want int) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		var s struct {
			TraceID string `json:"trace_id"`
			Name    string `json:"name"`
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if s.TraceID == requestTraceID && s.Name != "packets sent" && s.Name != "packets read" {
			t.Errorf("the console shows a copy of %s", s.Name)
		}
	}
	if len(lines) != want {
		t.Errorf("the console shows %d spans, want %d", len(lines), want)
	}
}
