//go:build vm

package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The attributes of a request's span that these tests look at.
const (
	keyDevice     = "system.device"
	keyPartition  = "otel_kprobe.block.partition"
	keyLevel      = "otel_kprobe.block.level"
	keyOperation  = "otel_kprobe.block.operation"
	keySector     = "otel_kprobe.block.sector"
	keyBytes      = "otel_kprobe.block.bytes"
	keyBytesDone  = "otel_kprobe.block.bytes.done"
	keyFlags      = "otel_kprobe.block.flags"
	keyBios       = "otel_kprobe.block.bios"
	keyRequeues   = "otel_kprobe.block.requeues"
	keyWriteback  = "otel_kprobe.block.writeback"
	keyQueue      = "otel_kprobe.block.queue.duration_ns"
	keyScheduler  = "otel_kprobe.block.scheduler.duration_ns"
	keyDuration   = "otel_kprobe.duration_ns"
	keyStartMono  = "otel_kprobe.start_mono_ns"
	keyEnd        = "otel_kprobe.end"
	keyCgroup     = "otel_kprobe.cgroup.path"
	keyPID        = "process.pid"
	keyThreadName = "thread.name"
	keyErrorType  = "error.type"
	keyDirection  = "disk.io.direction"
)

// queueSpan is the name of the span of the time before the issue.
const queueSpan = "queue"

// spanEvent is an event of a span: a bio that was merged, an attempt that was
// given back.
type spanEvent struct {
	name  string
	attrs map[string]any
}

// request is one request or bio: its span, and what belongs to it.
type request struct {
	*span
	startMonoNs uint64
	queue       *span // nil without one
	events      []spanEvent
	children    []*request // on the devices below, in the file's order
}

func (r *request) operation() string { return r.text(keyOperation) }

func (r *request) flag(name string) bool { return slices.Contains(r.list(keyFlags), name) }

// named are the events of one name.
func (r *request) named(name string) []spanEvent {
	return slices.DeleteFunc(slices.Clone(r.events), func(e spanEvent) bool { return e.name != name })
}

func (r *request) String() string {
	return fmt.Sprintf("%s on %s, sector %d, %d bytes", r.name, r.text(keyDevice), r.number(keySector), r.number(keyBytes))
}

// all is the request and everything below it, depth first.
func (r *request) all() []*request {
	list := []*request{r}
	for _, c := range r.children {
		list = append(list, c.all()...)
	}
	return list
}

// readRequests reads a file of OTLP/JSON lines and checks what every trace of
// the block layer must be.
func readRequests(t *testing.T, path string) []*request {
	t.Helper()
	var roots []*request
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		root := newRequest(j.root, j.root, eventsOf(spans))
		for _, problem := range root.problems() {
			t.Errorf("trace %s (%s): %s", j.id, root, problem)
		}
		roots = append(roots, root)
	})
	slices.SortStableFunc(roots, func(a, b *request) int { return cmp.Compare(a.startMonoNs, b.startMonoNs) })
	return roots
}

func eventsOf(spans ptrace.SpanSlice) map[string][]spanEvent {
	events := map[string][]spanEvent{}
	for _, p := range spans.All() {
		for _, e := range p.Events().All() {
			id := p.SpanID().String()
			events[id] = append(events[id], spanEvent{e.Name(), e.Attributes().AsRaw()})
		}
	}
	return events
}

func newRequest(s, root *span, events map[string][]spanEvent) *request {
	r := &request{
		span: s, events: events[s.id],
		startMonoNs: uint64(root.number(keyStartMono)) + s.start - root.start,
	}
	for _, c := range s.children {
		if c.name == queueSpan {
			r.queue = c
		} else {
			r.children = append(r.children, newRequest(c, root, events))
		}
	}
	return r
}

// problems says in what the request is not as every request must be.
func (r *request) problems() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if want := "block " + r.operation(); r.name != want {
		add("the name is %q, want %q", r.name, want)
	}
	if level := r.text(keyLevel); level != "request" && level != "bio" {
		add("%s is %q", keyLevel, level)
	}
	// A span is at least 1 ns long.
	if duration := r.number(keyDuration); absolute(int64(r.end-r.start)-duration) > 1 || r.end <= r.start {
		add("it lasts from %d to %d, with %s %d", r.start, r.end, keyDuration, duration)
	}
	if failed := r.text(keyErrorType) != ""; failed && !r.failed {
		add("it has %s %s and no error status", keyErrorType, r.text(keyErrorType))
	}
	if r.queue != nil {
		if r.queue.end != r.start || r.queue.end-r.queue.start != uint64(r.number(keyQueue)) {
			add("its queue span (%d to %d) is not the %d ns before its start %d", r.queue.start, r.queue.end, r.number(keyQueue), r.start)
		}
	}
	for i, c := range r.children {
		if c.start < r.start || c.end > r.end {
			add("%s (%d to %d) sticks out of its parent (%d to %d)", c, c.start, c.end, r.start, r.end)
		}
		if i > 0 && c.start < r.children[i-1].start {
			add("%s starts before its elder sibling %s", c, r.children[i-1])
		}
		all = append(all, c.problems()...)
	}
	return all
}

// pick selects requests.
func pick(from []*request, keep func(*request) bool) []*request {
	return slices.DeleteFunc(slices.Clone(from), func(r *request) bool { return !keep(r) })
}

// flat is every request and bio of the traces, those of the devices below
// included.
func flat(roots []*request) []*request {
	var all []*request
	for _, r := range roots {
		all = append(all, r.all()...)
	}
	return all
}

// on selects what belongs to a disk.
func on(from []*request, d disk) []*request {
	return pick(from, func(r *request) bool { return r.text(keyDevice) == string(d) })
}

// operations selects by operation.
func operations(from []*request, names ...string) []*request {
	return pick(from, func(r *request) bool { return slices.Contains(names, r.operation()) })
}

// by selects what a process submitted.
func by(from []*request, pid int64) []*request {
	return pick(from, func(r *request) bool { return r.number(keyPID) == pid })
}

// outline is a request with what it caused, as tests compare it.
type outline struct {
	Name     string
	Device   string
	Level    string
	Sector   int64
	Bytes    int64
	Children []outline
}

func (r *request) outline() outline {
	o := outline{r.name, r.text(keyDevice), r.text(keyLevel), r.number(keySector), r.number(keyBytes), nil}
	for _, c := range r.children {
		o.Children = append(o.Children, c.outline())
	}
	// The disks of a mirror get their writes in any order.
	slices.SortStableFunc(o.Children, compareOutlines)
	return o
}

func compareOutlines(a, b outline) int {
	return cmp.Or(strings.Compare(a.Device, b.Device), cmp.Compare(a.Sector, b.Sector))
}

func outlines(from []*request) []outline {
	all := make([]outline, len(from))
	for i, r := range from {
		all[i] = r.outline()
	}
	return all
}
