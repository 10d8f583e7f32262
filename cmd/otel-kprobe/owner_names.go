package main

import (
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// executablesKept bounds the paths that are remembered.
const executablesKept = 8192

// liveOwnerNames names the owners of the running kernel's sockets. It looks them
// up as soon as it hears of them, since a short-lived process or its cgroup is
// gone when the journey has ended. It is not safe for concurrent use.
type liveOwnerNames struct {
	cgroups *kernel.Cgroups
	// executables has no TID in its keys: threads of one name and process run one
	// program, and most have ended sooner than the first.
	executables map[spans.Thread]string
	executable  func(tgid, tid uint32, comm [16]byte) string
}

var _ spans.OwnerNames = (*liveOwnerNames)(nil)

func newLiveOwnerNames() *liveOwnerNames {
	return &liveOwnerNames{
		cgroups:     kernel.NewCgroups(),
		executables: make(map[spans.Thread]string),
		executable:  kernel.Executable,
	}
}

// note looks an owner up and remembers the answers.
func (n *liveOwnerNames) note(o *event.Owner) {
	n.cgroups.Path(o.Cgroup) // it remembers
	if o.Flags&event.OwnerProcess != 0 {
		n.Executable(spans.ThreadOf(o))
	}
}

// Cgroup implements spans.OwnerNames.
func (n *liveOwnerNames) Cgroup(id uint64) string { return n.cgroups.Path(id) }

// Executable implements spans.OwnerNames.
func (n *liveOwnerNames) Executable(t spans.Thread) string {
	key := spans.Thread{TGID: t.TGID, Comm: t.Comm}
	if path, ok := n.executables[key]; ok {
		return path
	}
	path := n.executable(t.TGID, t.TID, t.Comm)
	if path == "" {
		return "" // another thread of the process may tell yet
	}
	if len(n.executables) >= executablesKept {
		clear(n.executables)
	}
	n.executables[key] = path
	return path
}

// recordedOwnerNames wraps names so that the recording holds each answer.
func recordedOwnerNames(names spans.OwnerNames, recorder *recording.Writer) spans.OwnerNames {
	if recorder == nil {
		return names
	}
	return recording.RecordedOwnerNames{Names: names, Writer: recorder}
}
