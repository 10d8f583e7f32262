package main

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// What was noted is still known when the process has ended, also of a thread that
// was never asked for itself.
func TestOwnerNamesOutliveTheProcess(t *testing.T) {
	names := newLiveOwnerNames()
	running := true
	names.executable = func(tgid, _ uint32, _ [16]byte) string {
		if running && tgid == 70 {
			return "/usr/bin/curl"
		}
		return ""
	}
	owner := event.Owner{Flags: event.OwnerProcess, TGID: 70, TID: 70, Comm: [16]byte{'c', 'u', 'r', 'l'}}
	names.note(&owner)
	names.note(&event.Owner{TGID: 90}) // no process is known of it
	running = false
	worker, other := owner, owner
	worker.TID, other.Comm = 71, [16]byte{'w', 'g', 'e', 't'}
	for _, test := range []struct {
		about string
		owner event.Owner
		want  string
	}{
		{"the thread that was noted", owner, "/usr/bin/curl"},
		{"another thread of that name", worker, "/usr/bin/curl"},
		{"another name", other, ""},
	} {
		if got := names.Executable(spans.ThreadOf(&test.owner)); got != test.want {
			t.Errorf("%s: %q, want %q", test.about, got, test.want)
		}
	}
}
