//go:build vm

package scenario

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody has no privilege at all.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}

// checkReplay expects a recording to give the very bytes of the live run, twice,
// to a user without privilege, and the console's formats to show the same spans.
func checkReplay(t *testing.T, tr *traffic) {
	checkFormats(t, tr, checkReplayedBytes(t, tr.outcome))
}

// checkReplayedBytes is the first half of checkReplay. It returns the path of a copy
// of the recording that everybody may read. flags are those of the live run that
// change its spans.
func checkReplayedBytes(t *testing.T, tr *outcome, flags ...string) string {
	t.Helper()
	live, err := os.ReadFile(tr.output())
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	recording := filepath.Join(dir, "recording")
	if err := copyFile(tr.recording(), recording); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second"} {
		path := filepath.Join(dir, name)
		args := append([]string{"replay", "--exporter", "file", "--output", path}, flags...)
		o := runAs(t, nobody, append(args, recording)...)
		if o.exit != 0 {
			t.Fatalf("replay: exit status %d\n%s", o.exit, o.stderr)
		}
		replayed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(live, replayed) {
			t.Errorf("the %s replay differs from the live run: %s", name, firstDifference(live, replayed))
		}
	}
	return recording
}

// openDir makes a directory that nobody may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "scenario-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// firstDifference shows where two texts part.
func firstDifference(a, b []byte) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	cut := func(text []byte) string { return string(text[max(0, i-80):min(len(text), i+80)]) }
	return "at byte " + itoa(i) + " of " + itoa(len(a)) + " and " + itoa(len(b)) + ":\n" + cut(a) + "\n" + cut(b)
}

// checkFormats runs each format of the console over the recording.
func checkFormats(t *testing.T, tr *traffic, recording string) {
	t.Helper()
	texts := map[string]string{}
	for _, format := range []string{"tree", "lines", "json"} {
		o := run(t, "replay", "--exporter", "console", "--format", format, recording)
		if o.exit != 0 {
			t.Errorf("replay --format %s: exit status %d\n%s", format, o.exit, o.stderr)
		}
		texts[format] = o.stdout
	}
	functions, waits := 0, 0
	for _, j := range tr.journeys {
		functions += len(j.spans)
		waits += len(j.waits)
	}
	// The table has a line for each function below its header.
	header, table, _ := strings.Cut(texts["lines"], "\n")
	if n := strings.Count(table, "\n"); n != functions {
		t.Errorf("--format lines shows %d lines of functions, want %d", n, functions)
	}
	for _, column := range []string{"SKB", "CPU", "PROCESS", "NETNS", "MARK", "IFACE", "PROTO", "MTU", "LEN", "TUPLE", "FUNC"} {
		if !strings.Contains(header, column) {
			t.Errorf("--format lines has no column %s: %q", column, header)
		}
	}
	objects := 0
	for line := range strings.Lines(texts["json"]) {
		var o struct {
			Name  string `json:"name"`
			Trace string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Name == "" || o.Trace == "" {
			t.Errorf("--format json: %v in %q", err, line)
		}
		objects++
	}
	if want := functions + waits + len(tr.journeys); objects != want {
		t.Errorf("--format json shows %d spans, want %d", objects, want)
	}
	for _, text := range []string{"tx icmp", "10.9.0.1 → 10.9.0.2", "icmp_rcv", "vleft"} {
		ascii := strings.ReplaceAll(text, "→", "->")
		if !strings.Contains(texts["tree"], text) && !strings.Contains(texts["tree"], ascii) {
			t.Errorf("--format tree lacks %q", text)
		}
	}
}
