package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

var updateGoldens = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *updateGoldens {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func columns(n int) func() int { return func() int { return n } }

func TestConsoleGoldens(t *testing.T) {
	tests := []struct {
		name string
		o    ConsoleOptions
	}{
		{"tree", ConsoleOptions{Location: time.FixedZone("", 3600)}},
		{"tree_color", ConsoleOptions{Format: FormatTree, Color: true, Width: columns(120)}},
		{"tree_narrow", ConsoleOptions{Width: columns(60)}},
		{"tree_ascii", ConsoleOptions{ASCII: true, Width: columns(100)}},
		{"lines", ConsoleOptions{Format: FormatLines}},
		{"json", ConsoleOptions{Format: FormatJSON}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.name, testTraces(t, tt.o)) })
	}
}

// No line of a tree is wider than the terminal but those of the header whose
// single field is, and nothing in it moves the cursor.
func TestTreeFits(t *testing.T) {
	escapes := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for width := 1; width < 200; width++ {
		for _, o := range []ConsoleOptions{{Width: columns(width)}, {Width: columns(width), Color: true, ASCII: true}} {
			for _, line := range strings.Split(testTraces(t, o), "\n") {
				line = escapes.ReplaceAllString(line, "")
				n := utf8.RuneCountInString(line)
				frame := strings.HasPrefix(strings.TrimLeft(line, " "), "+")
				if (frame || width >= 60) && n > max(width, 3) {
					t.Fatalf("%d columns of %d: %q", n, width, line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
					t.Fatalf("control characters: %q", line)
				}
			}
		}
	}
}

// ASCII means all of it.
func TestASCII(t *testing.T) {
	for _, f := range []Format{FormatTree, FormatLines} {
		for i, b := range []byte(testTraces(t, ConsoleOptions{Format: f, ASCII: true})) {
			if b >= 0x80 {
				t.Fatalf("%s: byte %d is %#x", f, i, b)
			}
		}
	}
}

func TestJSONLinesAreJSON(t *testing.T) {
	out := testTraces(t, ConsoleOptions{Format: FormatJSON})
	parents := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		var s struct {
			TraceID    string          `json:"trace_id"`
			SpanID     string          `json:"span_id"`
			Parent     string          `json:"parent_span_id"`
			Attributes json.RawMessage `json:"attributes"`
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if s.Parent != "" && !parents[s.TraceID+s.Parent] {
			t.Errorf("no span before has the id of this parent: %s", line)
		}
		parents[s.TraceID+s.SpanID] = true
	}
}

// Attributes, events and links of every type; the builder makes few of them.
func TestJSONOfEverything(t *testing.T) {
	trace := &spans.Trace{ID: [16]byte{1}, DropSpan: -1, Sampling: spans.Sampling{Threshold: 3 << 54, Randomness: 0xd0000000000001}}
	trace.Spans = []spans.Span{{
		ID: [8]byte{2}, ParentIndex: -1, Name: "a\"\x01\x7f\xff\u2028é",
		Attrs: []spans.Attr{
			spans.StringAttr(spans.KeyEnd, "x"), spans.IntAttr(spans.KeyReturn, -1), spans.BoolAttr(spans.KeyEvicted, true),
			spans.HexAttr(spans.KeySkb, 0xffff888000000001), trace.ListAttr(spans.KeyInterfaces, "a", "b"),
		},
		Events: []spans.SpanEvent{
			{Name: "one", UnixNs: 5, Attrs: []spans.Attr{spans.IntAttr(spans.KeySkbLen, 6)}}, {Name: "two"},
		},
		Links:   []spans.Link{{TraceID: [16]byte{3}, SpanID: [8]byte{4}}, {}},
		Error:   true,
		Message: "why",
	}}
	var out collector
	NewConsole(&out, ConsoleOptions{Format: FormatJSON}).Export(trace)
	var got, want any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	const zeros = "00000000000000"
	if err := json.Unmarshal([]byte(`{
		"trace_id": "01`+zeros+zeros+`00", "span_id": "02`+zeros+`", "trace_state": "ot=th:c;rv:d0000000000001", "name": "a\"\u0001\u007f\ufffd\u2028é", "depth": 0,
		"start_unix_ns": 0, "end_unix_ns": 0, "enter_mono_ns": 0, "duration_ns": 0, "offset_ns": 0,
		"error": true, "message": "why",
		"attributes": {
			"otel_kprobe.end": "x", "otel_kprobe.return": -1, "otel_kprobe.evicted": true,
			"otel_kprobe.skb.address": "ffff888000000001", "otel_kprobe.interfaces": ["a", "b"]},
		"events": [
			{"name": "one", "unix_ns": 5, "attributes": {"otel_kprobe.skb.len": 6}},
			{"name": "two", "unix_ns": 0, "attributes": {}}],
		"links": [
			{"trace_id": "03`+zeros+zeros+`00", "span_id": "04`+zeros+`", "attributes": {}},
			{"trace_id": "00`+zeros+zeros+`00", "span_id": "00`+zeros+`", "attributes": {}}]
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A trace without a single span must not break a format.
func TestEmptyTrace(t *testing.T) {
	for _, f := range []Format{FormatTree, FormatLines, FormatJSON} {
		var out collector
		NewConsole(&out, ConsoleOptions{Format: f}).Export(&spans.Trace{DropSpan: -1, First: -1, Last: -1})
		if f != FormatLines && len(out) > 0 {
			t.Errorf("%s: %q", f, out)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestConsoleThatCannotWrite(t *testing.T) {
	k := newTestKernel()
	trace := spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(pingJourney(k))
	tests := []struct {
		name  string
		err   error
		gone  bool
		fails string
	}{
		{"the reader has gone", &os.PathError{Op: "write", Path: "stdout", Err: syscall.EPIPE}, true, ""},
		{"the pipe was closed", io.ErrClosedPipe, true, ""},
		{"the disk is full", syscall.ENOSPC, false, "write to the console: no space left on device"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewConsole(failing{tt.err}, ConsoleOptions{})
			select {
			case <-c.Broken():
				t.Error("broken before the first write")
			default:
			}
			c.Export(trace)
			c.Export(trace)
			select {
			case <-c.Broken():
			default:
				t.Error("not broken")
			}
			if got := c.ReaderGone(); got != tt.gone {
				t.Errorf("reader gone: %t", got)
			}
			message := ""
			if err := c.Shutdown(t.Context()); err != nil {
				message = err.Error()
			}
			if message != tt.fails {
				t.Errorf("shutdown: %q", message)
			}
			n := uint64(len(trace.Spans))
			want := Stats{Traces: 2, Spans: 2 * n, Failed: 2 * n, Batches: 1, Bytes: c.Stats().Bytes}
			if d := cmp.Diff(want, c.Stats()); d != "" {
				t.Errorf("stats (-want +got):\n%s", d)
			}
		})
	}
}

// A real pipe whose reader leaves, as head does.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	k := newTestKernel()
	c := NewConsole(w, ConsoleOptions{})
	c.Export(spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(pingJourney(k)))
	if err := c.Shutdown(t.Context()); err != nil || !c.ReaderGone() {
		t.Errorf("shutdown: %v, gone: %t", err, c.ReaderGone())
	}
}

func TestTerminalOptions(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := []struct {
		name  string
		env   map[string]string
		ascii bool
	}{
		{"no locale", nil, true},
		{"C", map[string]string{"LANG": "C"}, true},
		{"UTF-8", map[string]string{"LANG": "de_DE.UTF-8"}, false},
		{"utf8", map[string]string{"LC_CTYPE": "C.utf8", "LANG": "C"}, false},
		{"LC_ALL wins", map[string]string{"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := TerminalOptions(file, func(k string) string { return tt.env[k] })
			if o.ASCII != tt.ascii || o.Color || o.Width != nil || o.Height != nil {
				t.Errorf("%+v", o)
			}
		})
	}
}

// The master end of a pseudo-terminal is a terminal, too.
func TestTerminalOptionsOfATerminal(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	if err := unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 93}); err != nil {
		t.Fatal(err)
	}
	for env, color := range map[string]bool{"": true, "NO_COLOR": false, "TERM": false} {
		o := TerminalOptions(pty, func(k string) string { return map[string]string{env: "dumb"}[k] })
		if o.Color != color || o.Width == nil || o.Width() != 93 || o.Height == nil || o.Height() != 25 {
			t.Errorf("%q set: color %t, %+v", env, o.Color, o)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for _, name := range []string{"tree", "lines", "json"} {
		if f, err := ParseFormat(name); err != nil || string(f) != name {
			t.Errorf("%s: %s, %v", name, f, err)
		}
	}
	if _, err := ParseFormat("Tree"); err == nil || err.Error() != `unknown format "Tree": use tree, lines or json` {
		t.Errorf("Tree: %v", err)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := NewProgress(&out, ConsoleOptions{Width: columns(40)}, "Attaching")
	p.now = func() time.Time { return now }
	p.Update(0, 1449)
	p.Update(100, 1449) // too soon
	now = now.Add(time.Second)
	p.Update(812, 1449)
	p.Update(1449, 1449) // the end is drawn at once
	p.Update(1449, 1449)
	p.Done()
	p.Done()
	want := "\rAttaching    0/1449 ░░░░░░░░░░░░░░░░░░░\x1b[K" +
		"\rAttaching  812/1449 ██████████░░░░░░░░░\x1b[K" +
		"\rAttaching 1449/1449 ███████████████████\x1b[K" +
		"\r\x1b[K"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestProgressElsewhere(t *testing.T) {
	tests := []struct {
		name string
		o    ConsoleOptions
		want string
	}{
		{"no terminal", ConsoleOptions{}, ""},
		{"ascii", ConsoleOptions{ASCII: true, Width: columns(24)}, "\rAttaching 1/2 ####.....\x1b[K"},
		{"narrow", ConsoleOptions{Width: columns(16)}, "\rAttaching 1/2\x1b[K"},
		{"very narrow", ConsoleOptions{Width: columns(5)}, "\rAtta\x1b[K"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			p := NewProgress(&out, tt.o, "Attaching")
			p.Update(1, 2)
			if d := cmp.Diff(tt.want, out.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestListening(t *testing.T) {
	tests := []struct {
		attached, skipped int
		took              time.Duration
		want              string
	}{
		{1449, 12, 1234567890, "Attached 1449 probes (12 skipped) in 1.23s; listening"},
		{1, 0, 12345678, "Attached 1 probe (0 skipped) in 12ms; listening"},
	}
	for _, tt := range tests {
		if got := Listening(tt.attached, tt.skipped, tt.took); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func testSummary() *Summary {
	return &Summary{
		DurationNs: 10e9, Backend: "session", AttachNs: 15e8, Attached: 1449, Skipped: 12,
		Frames: 900, Submitted: 905, Tracked: 2, Traces: 30, Spans: 930,
		KernelLost: map[string]uint64{"ring_full": 3, "tracked_full": 0, "frames_full": 2},
		Tracker:    TrackerSummary{Late: 4, LateFrames: 3, Unfinished: 1, LostFrames: 5},
		Exporters: []ExporterSummary{
			NewExporterSummary("console", Stats{Traces: 30, Spans: 930, Exported: 930, Batches: 30, Bytes: 1}),
			NewExporterSummary("otlp", Stats{Spans: 930, Exported: 900, Dropped: 10, Rejected: 9, Failed: 8, Unsent: 3}),
		},
	}
}

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	correlated := testSummary()
	correlated.PassedOver, correlated.WirePassedOver, correlated.FramesPassedOver = 9, 4, 70
	correlated.Summed, correlated.Copied, correlated.SummariesLeftOut, correlated.CopiesLeftOut = 5, 120, 7, 8
	sampled := testSummary()
	sampled.Unsampled = 2700
	for _, s := range []*Summary{testSummary(), {}, correlated, sampled} {
		if err := s.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		out.WriteString(s.String() + "\n")
	}
	golden(t, "summary", out.String())
	if n := testSummary().ExportLost(); n != 30 {
		t.Errorf("%d spans lost, want 30", n)
	}
	if err := testSummary().WriteJSON(failing{syscall.ENOSPC}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
}

// TestConsoleLeavesCopiesOut expects a trace to be shown, and counted, once only.
func TestConsoleLeavesCopiesOut(t *testing.T) {
	k := newTestKernel()
	trace := spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(pingJourney(k))
	for _, f := range []Format{FormatTree, FormatLines, FormatJSON} {
		var out collector
		c := NewConsole(&out, ConsoleOptions{Format: f})
		c.Export(trace)
		text, stats := string(out), c.Stats()
		again := *trace
		again.Copy = true
		c.Export(&again)
		if string(out) != text || c.Stats() != stats || stats.Exported == 0 {
			t.Errorf("%s: %+v became %+v with\n%s", f, stats, c.Stats(), out)
		}
	}
}

func BenchmarkConsole(b *testing.B) {
	k := newTestKernel()
	trace := spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(pingJourney(k))
	for _, f := range []Format{FormatTree, FormatLines, FormatJSON} {
		b.Run(string(f), func(b *testing.B) {
			c := NewConsole(io.Discard, ConsoleOptions{Format: f})
			b.ReportAllocs()
			for b.Loop() {
				c.Export(trace)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(trace.Spans)), "ns/span")
		})
	}
}
