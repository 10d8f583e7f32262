package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const pingSummary = "131 frames, 4 traces, 139 spans; exported 139 to %; nothing lost\n"

func summaryTo(exporter string) string { return strings.Replace(pingSummary, "%", exporter, 1) }

// The golden file of OTLP/JSON is what the traced machine itself wrote while it
// recorded: a replay gives its bytes, anywhere and every time.
func TestReplayToFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	for range 2 {
		want := outcome{Status: exitOK, Stderr: summaryTo("file")}
		if diff := cmp.Diff(want, command(t, "replay", "--output", path, recordPing)); diff != "" {
			t.Fatal(diff)
		}
		got := strings.ReplaceAll(string(read(t, path)), `"`+version()+`"`, `"devel"`)
		golden(t, "ping.jsonl", got)
	}
}

func TestReplayToConsole(t *testing.T) {
	for _, format := range []string{"tree", "lines", "json"} {
		t.Run(format, func(t *testing.T) {
			got := command(t, "replay", "--format", format, recordPing)
			if got.Status != exitOK || got.Stderr != summaryTo("console") {
				t.Errorf("status %d, stderr %q", got.Status, got.Stderr)
			}
			golden(t, "ping-"+format+".golden", got.Stdout)
		})
	}
	if diff := cmp.Diff(command(t, "replay", "--format", "tree", recordPing), command(t, "replay", recordPing)); diff != "" {
		t.Errorf("the default is not tree: %s", diff)
	}
}

// The seed changes the ids and nothing else.
func TestReplaySeed(t *testing.T) {
	spans := func(seed string) []jsonSpan {
		path := filepath.Join(t.TempDir(), "spans.jsonl")
		if got := command(t, "replay", "--seed", seed, "--output", path, recordPing); got.Status != exitOK {
			t.Fatal(got.Stderr)
		}
		return readSpans(t, path)
	}
	one, again, other := spans("1"), spans("01"), spans("2")
	if diff := cmp.Diff(one, again); diff != "" {
		t.Errorf("same seed: %s", diff)
	}
	if one[0].TraceID == other[0].TraceID || one[0].SpanID == other[0].SpanID {
		t.Error("another seed gives the same ids")
	}
	ids := cmpopts.IgnoreFields(jsonSpan{}, "TraceID", "SpanID", "ParentSpanID")
	if diff := cmp.Diff(one, other, ids); diff != "" {
		t.Errorf("another seed: %s", diff)
	}
}

func TestParseSeed(t *testing.T) {
	for text, want := range map[string]*[16]byte{
		"":                                 nil,
		"7":                                {15: 7},
		"0102":                             {14: 1, 15: 2},
		"000102030405060708090a0b0c0d0E0F": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	} {
		got, err := parseSeed(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"g", "0x1", strings.Repeat("1", 33)} {
		if _, err := parseSeed(text); err == nil {
			t.Errorf("%q is a seed", text)
		}
	}
}

func TestReplayLimit(t *testing.T) {
	got := command(t, "replay", "--limit-traces", "2", recordPing)
	if got.Status != exitOK || !strings.Contains(got.Stderr, " 2 traces, ") || strings.Count(got.Stdout, " frames\n") != 2 {
		t.Errorf("%+v", got)
	}
}

// What is wrong with a recording is one sentence; what came before is shown.
func TestReplayDamagedFiles(t *testing.T) {
	whole := read(t, recordPing)
	for _, c := range []struct {
		name    string
		content []byte
		status  int
		part    string
		summary string // what the line before the error begins with, "" for none
	}{
		{"empty", nil, exitUsage, "the recording was cut off at byte 0", ""},
		{"foreign", []byte("#!/bin/sh\necho hello\n"), exitUsage, "this is not a recording of otel-kprobe", ""},
		{"other version", append(append([]byte{}, whole[:8]...), 9, 0, 0, 0), exitUsage, "version 9", ""},
		{"cut in the header", whole[:40], exitUsage, "the recording was cut off at byte 40", ""},
		{"cut off", whole[:len(whole)/2], exitFailed, "the recording was cut off at byte", "65 frames, 2 traces"},
		{"bit turned", flipped(whole, len(whole)/2), exitFailed, "the recording is damaged", "65 frames, 2 traces"},
		{"longer", append(append([]byte{}, whole...), "more"...), exitFailed, "something follows the trailer", "131 frames, 4 traces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "damaged.okrec", c.content)
			got := command(t, "replay", path)
			lines := strings.SplitAfter(got.Stderr, "\n")
			if got.Status != c.status || !strings.Contains(got.Stderr, c.part) || strings.Count(got.Stderr, path) != 1 {
				t.Errorf("status %d, want %d with %q; stderr %q", got.Status, c.status, c.part, got.Stderr)
			}
			want := 1 // line
			if c.summary != "" {
				want = 2
			}
			if len(lines)-1 != want || !strings.HasPrefix(lines[0], c.summary) || !strings.HasPrefix(lines[want-1], "otel-kprobe: ") {
				t.Errorf("stderr is not %d lines beginning with %q: %q", want, c.summary, got.Stderr)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "missing")
	wantOneLine(t, command(t, "replay", missing), exitUsage, missing+": no such file or directory")
	wantOneLine(t, command(t, "replay", t.TempDir()), exitUsage, "is a directory")
}

func flipped(whole []byte, at int) []byte {
	damaged := append([]byte{}, whole...)
	damaged[at] ^= 1
	return damaged
}

// Writing the spans over the recording would be the end of it.
func TestReplayOverItself(t *testing.T) {
	path := write(t, "ping.okrec", read(t, recordPing))
	wantOneLine(t, command(t, "replay", "--output", path, path), exitUsage, "create the file of --output: it is the recording, too; name another")
	if !bytes.Equal(read(t, path), read(t, recordPing)) {
		t.Error("the recording has changed")
	}
	wantOneLine(t, command(t, "replay", "--output", "/no/such/dir/file", path), exitUsage, "create the file of --output: open /no/such/dir/file")
}

// A signal ends a replay as it ends tracing: what was read is written.
func TestReplayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	status := run(ctx, []string{"replay", recordPing}, system{stdout: &stdout, stderr: &stderr, getenv: os.Getenv})
	want := "0 frames, 0 traces, 0 spans; exported 0 to console; nothing lost\notel-kprobe: interrupted: recording " + recordPing + " was not read to its end\n"
	if status != exitFailed || stderr.String() != want {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

// brokenPipe is a stdout whose reader has gone, or which is full.
type brokenPipe struct{ err error }

func (b brokenPipe) Write([]byte) (int, error) { return 0, b.err }

func TestReplayToNobody(t *testing.T) {
	path := write(t, "long.okrec", makeRecording(t, 2000, 2))
	for _, c := range []struct {
		name   string
		err    error
		status int
		part   string
	}{
		{"reader gone", syscall.EPIPE, exitOK, "exported 0 to console; nothing lost\n"},
		{"disk full", syscall.ENOSPC, exitLostSpans, " spans on their way out: write to the console: no space left on device\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			status := run(t.Context(), []string{"replay", path}, system{stdout: brokenPipe{c.err}, stderr: &stderr, getenv: os.Getenv})
			if status != c.status || !strings.Contains(stderr.String(), c.part) {
				t.Errorf("status %d, stderr %q", status, stderr.String())
			}
		})
	}
}

// Records that can't be decoded are counted.
func TestReplayDamagedRecord(t *testing.T) {
	content := makeRecording(t, 1, 1)
	path := write(t, "one.okrec", content)
	if got := command(t, "replay", path); got.Status != exitOK || !strings.Contains(got.Stderr, "1 frames, 1 traces, 2 spans") {
		t.Fatalf("%+v", got)
	}
	p := newPipeline(pipelineOptions{})
	p.record([]byte{0xff, 1, 2})
	if p.damaged != 1 || p.frames != 0 {
		t.Errorf("damaged %d, frames %d", p.damaged, p.frames)
	}
}

// jsonSpan is a span of OTLP/JSON.
type jsonSpan struct {
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"`
	Name         string `json:"name"`
	Start        string `json:"startTimeUnixNano"`
	End          string `json:"endTimeUnixNano"`
}

// readSpans reads the spans of a file of OTLP/JSON lines.
func readSpans(t *testing.T, path string) []jsonSpan {
	t.Helper()
	var all []jsonSpan
	for line := range bytes.Lines(read(t, path)) {
		var traces struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []jsonSpan `json:"spans"`
				} `json:"scopeSpans"`
			} `json:"resourceSpans"`
		}
		if err := json.Unmarshal(line, &traces); err != nil {
			t.Fatal(err)
		}
		for _, resource := range traces.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				all = append(all, scope.Spans...)
			}
		}
	}
	return all
}
