package export

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// latencies makes a histogram of so many requests of each latency.
func latencies(counts map[time.Duration]int) *blockio.Histogram {
	h := &blockio.Histogram{}
	for d, n := range counts {
		for range n {
			h.Add(uint64(d))
		}
	}
	return h
}

// testHistograms are of two devices, of one that did nothing, and of a name
// that tries to write elsewhere on the terminal.
func testHistograms() []NamedHistogram {
	const us, ms = time.Microsecond, time.Millisecond
	return []NamedHistogram{
		{Name: "device nvme0n1", Histogram: latencies(map[time.Duration]int{
			80 * us: 3, 130 * us: 52, 300 * us: 181, 600 * us: 70, 1500 * us: 9, 70 * ms: 1,
		})},
		{Name: "device sda", Histogram: &blockio.Histogram{}},
		{Name: "process a\x1b[2J\né", Histogram: latencies(map[time.Duration]int{
			300: 2, 1500: 1, 2500: 1, 2 * time.Second: 4,
		})},
	}
}

func TestHistograms(t *testing.T) {
	unknownMax := latencies(map[time.Duration]int{5 * time.Microsecond: 3})
	unknownMax.MinNs, unknownMax.MaxNs = 0, 0
	many := &blockio.Histogram{Count: 3_000_000_000_000, MaxNs: 9_000}
	many.Counts[blockio.Bucket(9_000)], many.Counts[blockio.Bucket(5_000)] = 2_000_000_000_000, 1_000_000_000_000
	tests := []struct {
		name   string
		groups []NamedHistogram
		o      HistogramOptions
	}{
		{"histogram", testHistograms(), HistogramOptions{}},
		{"histogram_ascii", testHistograms(), HistogramOptions{ASCII: true}},
		{"histogram_all", []NamedHistogram{{Histogram: testHistograms()[0].Histogram}}, HistogramOptions{}},
		{"histogram_extremes", []NamedHistogram{{Name: "op read", Histogram: unknownMax}, {Histogram: many}}, HistogramOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.name, string(AppendHistograms(nil, tt.groups, tt.o))) })
	}
}

func TestHistogramsOfNothing(t *testing.T) {
	for _, groups := range [][]NamedHistogram{nil, {{Histogram: &blockio.Histogram{}}, {Name: "op read", Histogram: &blockio.Histogram{}}}} {
		if got := string(AppendHistograms([]byte("x "), groups, HistogramOptions{})); got != "x no request completed\n" {
			t.Errorf("%d groups: %q", len(groups), got)
		}
	}
}

// Rows as bpftrace prints them.
func TestRowIsBpftraces(t *testing.T) {
	rows := []blockio.Row{{FromUs: 256, ToUs: 512, Count: 181}, {FromUs: 512, ToUs: 1024, Count: 70}, {FromUs: 1024, ToUs: 2048}}
	want := "[256, 512)           181 |" + strings.Repeat("@", 52) + "|\n" +
		"[512, 1K)             70 |@@@@@@@@@@@@@@@@@@@@                                |\n" +
		"[1K, 2K)               0 |" + strings.Repeat(" ", 52) + "|\n"
	if d := cmp.Diff(want, string(appendRows(nil, rows))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLabels(t *testing.T) {
	tests := []struct {
		from, to uint64
		want     string
	}{
		{0, 1, "[0]"},
		{1, 2, "[1]"},
		{2, 4, "[2, 4)"},
		{512, 1 << 10, "[512, 1K)"},
		{1 << 19, 1 << 20, "[512K, 1M)"},
		{1 << 20, 1 << 21, "[1M, 2M)"},
		{1 << 29, 1 << 30, "[512M, 1G)"},
		{1 << 39, 1 << 40, "[512G, 1T)"},
		{1 << 50, 1 << 51, "[1024T, 2048T)"},
	}
	for _, tt := range tests {
		if got := string(appendLabel(nil, blockio.Row{FromUs: tt.from, ToUs: tt.to})); got != tt.want {
			t.Errorf("%d to %d: %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestRough(t *testing.T) {
	for ns, want := range map[uint64]string{
		0: "0.00µs", 250: "0.25µs", 9_999: "9.99µs", 12_345: "12.3µs", 297_104: "297µs", 1_520_000: "1.52ms",
		70_000_000: "70.0ms", 2_000_000_000: "2.00s", 4_321_000_000_000: "4321s",
	} {
		if got := string(appendRough(nil, ns, "µs")); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

// Every row that can be has its columns where bpftrace has them.
func TestRowsAreAligned(t *testing.T) {
	h := &blockio.Histogram{}
	for i := range h.Counts {
		h.Counts[i] = uint64(i)
		h.Count += uint64(i)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(appendRows(nil, h.Rows())), "\n"), "\n") {
		if len(line) != labelColumns+countColumns+2+barColumns+1 || line[25] != '|' || line[78] != '|' {
			t.Errorf("%q", line)
		}
	}
}

// terminal follows what a Live draws as a terminal does that is wide enough.
type terminal struct {
	rows []string // those above the cursor
}

func (s *terminal) Write(p []byte) (int, error) {
	text := string(p)
	if rest, found := strings.CutPrefix(text, "\r\x1b["); found {
		up, rest, _ := strings.Cut(rest, "A\x1b[J")
		n, err := strconv.Atoi(up)
		if err != nil || n > len(s.rows) {
			return 0, errors.New("move the cursor up " + up)
		}
		s.rows, text = s.rows[:len(s.rows)-n], rest
	}
	s.rows = append(s.rows, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	return len(p), nil
}

func liveOptions(width, height int, ascii bool) ConsoleOptions {
	return ConsoleOptions{Width: columns(width), Height: columns(height), ASCII: ascii}
}

func TestLiveRedraws(t *testing.T) {
	now := time.Unix(1795428000, 0)
	full := "10:00:00\n" + string(AppendHistograms(nil, testHistograms(), HistogramOptions{}))
	lines := strings.Split(strings.TrimSuffix(full, "\n"), "\n")
	tests := []struct {
		name string
		o    ConsoleOptions
		want []string
	}{
		{"no limit", ConsoleOptions{}, lines},
		{"room for all", liveOptions(80, len(lines)+1, false), lines},
		{"too low by one", liveOptions(80, len(lines), false), append(slices.Clone(lines[:len(lines)-2]), "… 2 more lines")},
		{"low", liveOptions(80, 4, false), []string{lines[0], lines[1], "… 37 more lines"}},
		{"narrow", liveOptions(12, 4, true), []string{"10:00:00", "device nvme", "... 37 more"}},
		{"two lines", liveOptions(80, 2, false), []string{"… 39 more lines"}},
		{"one line", liveOptions(1, 1, false), []string{"…"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			screen := &terminal{rows: []string{"before"}}
			l := NewLive(screen, tt.o, true)
			for range 3 {
				if err := l.Show(now, testHistograms()); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(append([]string{"before"}, tt.want...), screen.rows); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if err := l.Show(now, nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Finish(testHistograms()); err != nil {
				t.Fatal(err)
			}
			final := AppendHistograms(nil, testHistograms(), HistogramOptions{ASCII: tt.o.ASCII})
			if d := cmp.Diff("before\n"+string(final), strings.Join(screen.rows, "\n")+"\n"); d != "" {
				t.Errorf("at the end (-want +got):\n%s", d)
			}
		})
	}
}

// Whatever the size, a drawing leaves a column and the cursor's line free.
func TestLiveFits(t *testing.T) {
	for height := 2; height < 50; height++ {
		for width := 2; width < 90; width += 3 {
			screen := &terminal{}
			if err := NewLive(screen, liveOptions(width, height, false), true).Show(time.Unix(0, 0), testHistograms()); err != nil {
				t.Fatal(err)
			}
			if len(screen.rows) >= height {
				t.Fatalf("%d lines of %d", len(screen.rows), height)
			}
			for _, row := range screen.rows {
				if utf8.RuneCountInString(row) >= width || strings.ContainsFunc(row, func(r rune) bool { return r < 0x20 }) {
					t.Fatalf("%d columns: %q", width, row)
				}
			}
		}
	}
}

func TestLiveElsewhere(t *testing.T) {
	var out bytes.Buffer
	l := NewLive(&out, ConsoleOptions{Location: time.FixedZone("", 3600)}, false)
	groups := []NamedHistogram{{Name: "op read", Histogram: latencies(map[time.Duration]int{time.Microsecond: 1})}}
	for second := range int64(2) {
		if err := l.Show(time.Unix(1795428000+second, 0), groups); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	text := string(AppendHistograms(nil, groups, HistogramOptions{})) + "\n"
	want := "11:00:00\n" + text + "11:00:01\n" + text + "no request completed\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLiveThatCannotWrite(t *testing.T) {
	l := NewLive(failing{syscall.ENOSPC}, ConsoleOptions{}, false)
	for _, err := range []error{l.Show(time.Unix(0, 0), nil), l.Finish(nil)} {
		if !errors.Is(err, syscall.ENOSPC) || err.Error() != "write the histograms: no space left on device" {
			t.Errorf("%v", err)
		}
	}
}
