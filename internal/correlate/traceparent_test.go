package correlate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestParseTraceparent(t *testing.T) {
	const trace, id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	want := event.AppContext{
		TraceID: [16]byte{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c},
		SpanID:  [8]byte{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31},
	}
	for _, test := range []struct {
		name, value string
		ok          bool
		flags       event.AppFlags
	}{
		{"sampled", "00-" + trace + "-" + id + "-01", true, 0},
		{"not sampled", "00-" + trace + "-" + id + "-00", true, event.AppUnsampled},
		{"other flags", "00-" + trace + "-" + id + "-fe", true, event.AppUnsampled},
		{"random and sampled", "00-" + trace + "-" + id + "-03", true, 0},
		{"version 0 with more", "00-" + trace + "-" + id + "-01-x", false, 0},
		{"later version", "cc-" + trace + "-" + id + "-01", true, 0},
		{"later version with more", "cc-" + trace + "-" + id + "-01-what", true, 0},
		{"later version that goes on without a dash", "cc-" + trace + "-" + id + "-01.what", false, 0},
		{"version ff", "ff-" + trace + "-" + id + "-01", false, 0},
		{"upper case", "00-" + strings.ToUpper(trace) + "-" + id + "-01", false, 0},
		{"trace id 0", "00-" + strings.Repeat("0", 32) + "-" + id + "-01", false, 0},
		{"span id 0", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false, 0},
		{"too short", "00-" + trace + "-" + id + "-1", false, 0},
		{"no dash", "00-" + trace + "_" + id + "-01", false, 0},
		{"no digit in the version", "0g-" + trace + "-" + id + "-01", false, 0},
		{"no digit in the flags", "00-" + trace + "-" + id + "-0.", false, 0},
		{"empty", "", false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, flags, ok := parseTraceparent([]byte(test.value))
			if ok != test.ok || ok && (got != want || flags != test.flags) {
				t.Errorf("%v %v %v", got, flags, ok)
			}
		})
	}
}

func TestFindOption(t *testing.T) {
	context := func(length byte) []byte {
		c := span(7)
		b := append([]byte{25, length}, c.TraceID[:]...)
		return append(b, c.SpanID[:]...)
	}
	timestamps := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, test := range []struct {
		name    string
		options []byte
		want    int
	}{
		{"none", nil, 0},
		{"others", timestamps, 0},
		{"behind others", append(timestamps[:12:12], context(26)...), 7},
		{"longer", append(context(27), 1), 7},
		{"shorter", context(25), 0},
		{"cut", context(26)[:20], 0},
		{"behind the end", append([]byte{0}, context(26)...), 0},
		{"behind a length of 0", append([]byte{8, 0}, context(26)...), 0},
		{"kind alone", []byte{25}, 0},
		{"zero ids", append([]byte{25, 26}, make([]byte, 24)...), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := findOption(test.options)
			if ok != (test.want != 0) {
				t.Fatalf("%v %v", got, ok)
			}
			if diff := cmp.Diff(span(test.want), got); ok && diff != "" {
				t.Error(diff)
			}
		})
	}
}
