package export

import (
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestBlockFormats(t *testing.T) {
	tests := []struct {
		name string
		o    ConsoleOptions
	}{
		{"block_tree", ConsoleOptions{}},
		{"block_tree_color", ConsoleOptions{Color: true, Width: columns(120)}},
		{"block_tree_narrow", ConsoleOptions{Width: columns(60)}},
		{"block_tree_ascii", ConsoleOptions{ASCII: true, Width: columns(100)}},
		{"block_lines", ConsoleOptions{Format: FormatLines}},
		{"block_json", ConsoleOptions{Format: FormatJSON}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.name, testBlockTraces(t, tt.o)) })
	}
}

// No line of a block tree is wider than the terminal but those of the header
// whose single field is, and nothing in it moves the cursor.
func TestBlockTreeFits(t *testing.T) {
	escapes := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	span := regexp.MustCompile(`^ *[+-]\d`)
	for width := 1; width < 200; width++ {
		for _, o := range []ConsoleOptions{{Width: columns(width)}, {Width: columns(width), Color: true, ASCII: true}} {
			for _, line := range strings.Split(testBlockTraces(t, o), "\n") {
				line = escapes.ReplaceAllString(line, "")
				n := utf8.RuneCountInString(line)
				if (span.MatchString(line) || width >= 60) && n > max(width, 3) {
					t.Fatalf("%d columns of %d: %q", n, width, line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
					t.Fatalf("control characters: %q", line)
				}
			}
		}
	}
}

func TestBlockASCII(t *testing.T) {
	for _, f := range []Format{FormatTree, FormatLines} {
		for i, b := range []byte(testBlockTraces(t, ConsoleOptions{Format: f, ASCII: true})) {
			if b >= 0x80 {
				t.Fatalf("%s: byte %d is %#x", f, i, b)
			}
		}
	}
}

func TestBlockTextAllocatesNothing(t *testing.T) {
	trace := spans.NewRequestBuilder(spans.BlockOptions{Names: testDisks{}, Clock: newTestKernel()}).Build(stacked()[0])
	for _, f := range []Format{FormatTree, FormatLines, FormatJSON} {
		c := NewConsole(io.Discard, ConsoleOptions{Format: f})
		c.Export(trace)
		if n := testing.AllocsPerRun(50, func() { c.Export(trace) }); n != 0 {
			t.Errorf("%s: %v allocations for a trace, want 0", f, n)
		}
	}
}

// A queue span begins before its request.
func TestBlockJSONOffsets(t *testing.T) {
	type span struct {
		Name     string `json:"name"`
		OffsetNs int64  `json:"offset_ns"`
		Duration uint64 `json:"duration_ns"`
	}
	b := spans.NewRequestBuilder(spans.BlockOptions{Names: testDisks{}, Clock: newTestKernel()})
	var out collector
	c := NewConsole(&out, ConsoleOptions{Format: FormatJSON})
	c.Export(b.Build(plainRequests()[0]))
	c.Export(b.Build(stacked()[0]))
	var got []span
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		var s span
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		got = append(got, s)
	}
	want := []span{
		{"block write", 0, 1_234_000},
		{"queue", -12_300, 12_300},
		{"block write", 0, 1_500_000},
		{"block write", 10_000, 1_100_000},
		{"queue", 8_000, 2_000},
		{"block write", 12_000, 1_400_000},
		{"queue", 500, 11_500},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Packets and requests in one table: a header wherever the kind changes.
func TestMixedLines(t *testing.T) {
	k := newTestKernel()
	packets := spans.NewBuilder(spans.Options{Names: k, Clock: k})
	requests := spans.NewRequestBuilder(spans.BlockOptions{Names: testDisks{}, Clock: k})
	var out collector
	c := NewConsole(&out, ConsoleOptions{Format: FormatLines})
	for _, block := range []bool{true, true, false, true, false, false} {
		if block {
			c.Export(requests.Build(plainRequests()[0]))
		} else {
			c.Export(packets.Build(pingJourney(k)))
		}
	}
	var headers []string
	for _, line := range strings.Split(string(out), "\n") {
		if first, _, _ := strings.Cut(line, " "); first == "TIME" || first == "SKB" {
			headers = append(headers, first)
		}
	}
	if d := cmp.Diff([]string{"TIME", "SKB", "TIME", "SKB"}, headers); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestListeningBlock(t *testing.T) {
	tests := []struct {
		devices  []string
		attached int
		took     time.Duration
		want     string
	}{
		{nil, 10, 312_345_678, "Attached 10 probes in 312ms; listening to all block devices"},
		{[]string{"nvme0n1", "8:0"}, 1, 1_234_567_890, "Attached 1 probe in 1.23s; listening to nvme0n1, 8:0"},
	}
	for _, tt := range tests {
		if got := ListeningBlock(tt.devices, tt.attached, tt.took); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func blockSummary() *Summary {
	return &Summary{
		DurationNs: 10e9, Backend: "tracepoints", AttachNs: 3e8, Attached: 10, Block: true,
		Requests: 1234, RequestsSubmitted: 1240, InFlight: 2, Traces: 1200, Spans: 2400,
		BlockTracker: NewBlockTrackerSummary(blockio.Stats{
			Records: 1300, Requests: 1234, Emitted: 1200, EmittedRequests: 1230, Held: 4, HeldRecords: 5,
			Orphans: 3, Late: 1, Evicted: 6, Unfinished: 7, Stranded: 8,
		}),
		Histograms: NewHistogramSummaries(testHistograms()),
		Exporters:  []ExporterSummary{NewExporterSummary("console", Stats{Traces: 1200, Spans: 2400, Exported: 2400})},
	}
}

func TestBlockSummary(t *testing.T) {
	var out collector
	if err := blockSummary().WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	both := blockSummary()
	both.Frames, both.Tracker.Unfinished = 900, 1
	clean := &Summary{Block: true, Requests: 1234, Traces: 1200, Spans: 2400, Exporters: blockSummary().Exporters}
	for _, s := range []*Summary{blockSummary(), both, clean, {Block: true}} {
		out = append(out, s.String()+"\n"...)
	}
	golden(t, "block_summary", string(out))
	names := []string{}
	for _, c := range blockSummary().Losses() {
		names = append(names, c.Name)
	}
	if want := []string{"orphan requests", "stranded records", "evicted requests"}; !slices.Equal(names, want) {
		t.Errorf("losses: %q, want %q", names, want)
	}
}

func BenchmarkConsoleBlock(b *testing.B) {
	builder := spans.NewRequestBuilder(spans.BlockOptions{Names: testDisks{}, Clock: newTestKernel()})
	trace := builder.Build(stacked()[0])
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
