package spans

import (
	"path"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// OwnerNames names what the kernel reported of the owners of sockets. A Builder
// asks for each once and remembers the answer; an unknown one gets "".
type OwnerNames interface {
	// Cgroup is the path of a cgroup (version 2) below its root.
	Cgroup(id uint64) string
	// Executable is the path of the program that a thread runs. The thread's name
	// is part of the question, since its number may have been given to another
	// one, or the thread may run another program now.
	Executable(t Thread) string
}

// Thread names a thread at one time.
type Thread struct {
	TGID, TID uint32
	Comm      [16]byte // NUL-terminated
}

// ThreadOf is the thread that used the socket of an owner.
func ThreadOf(o *event.Owner) Thread { return Thread{TGID: o.TGID, TID: o.TID, Comm: o.Comm} }

// cgroup is what a cgroup's path tells.
type cgroup struct{ path, container, pod string }

// executable is a program's path and what comes last in it.
type executable struct{ path, name string }

// ownerNameCache remembers strings, so that a Build in steady state makes none.
type ownerNameCache struct {
	names       OwnerNames
	cgroups     map[uint64]cgroup
	executables map[Thread]executable
}

func newOwnerNameCache(o Options) ownerNameCache {
	return ownerNameCache{names: o.Owners, cgroups: map[uint64]cgroup{}, executables: map[Thread]executable{}}
}

func (c *ownerNameCache) cgroup(id uint64) cgroup {
	if g, ok := c.cgroups[id]; ok || c.names == nil {
		return g
	}
	p := valid(c.names.Cgroup(id))
	return remember(c.cgroups, id, cgroup{path: p, container: ContainerID(p), pod: PodUID(p)})
}

func (c *ownerNameCache) executable(t Thread) executable {
	if e, ok := c.executables[t]; ok || c.names == nil {
		return e
	}
	e := executable{path: valid(c.names.Executable(t))}
	if e.path != "" {
		e.name = path.Base(e.path)
	}
	return remember(c.executables, t, e)
}

// arrival is the CLOCK_MONOTONIC of the first frame that only packets on their
// way in come to; no time is later when there is none.
func (b *Builder) arrival() uint64 {
	first := ^uint64(0)
	for i := range b.nester.nodes {
		f := &b.trace.Spans[b.nester.nodes[i].span].Frame
		if f.EnterMonoNs < first && b.names.function(f.Func).side == sideRx {
			first = f.EnterMonoNs
		}
	}
	return first
}

// sender is the owner of the socket that sent the packet, nil when it was
// received, or came from no socket.
func (b *Builder) sender() *event.Owner {
	if t := &b.trace; len(t.owners) > 0 && t.owners[0].AtMonoNs < b.arrival() {
		return &t.owners[0]
	}
	return nil
}

// receiver is the owner of the last socket that the packet came to; rather one
// whose process is known. A tunnel's socket is no receiver.
func (b *Builder) receiver() *event.Owner {
	t := &b.trace
	if len(t.owners) == 0 {
		return nil
	}
	var from uint64
	if t.Direction != DirectionRx {
		from = b.arrival()
	}
	var last *event.Owner
	for i := len(t.owners) - 1; i >= 0; i-- {
		o := &t.owners[i]
		if o.AtMonoNs < from || o.Flags&event.OwnerKernel != 0 {
			continue
		}
		if o.Flags&event.OwnerProcess != 0 {
			return o
		}
		if last == nil {
			last = o
		}
	}
	return last
}

// ownerAttrs adds whose packet it is: the owner of the socket that sent it, of a
// received one of the socket that it came to. Where no record tells of a socket
// it is the thread that sent the packet, or that which read it first. The thread
// that was current when a packet came is a bystander and says nothing.
func (b *Builder) ownerAttrs() {
	t := &b.trace
	switch t.Direction {
	case DirectionTx:
		if o := b.sender(); o != nil {
			b.socketAttrs(o)
		} else if len(t.Facts) > 0 {
			b.processAttrs(&t.Facts[0])
		}
	case DirectionRx:
		o := b.receiver()
		if b.reader != 0 && (o == nil || o.Flags&event.OwnerProcess == 0) {
			b.processAttrs(t.FactsOf(&t.Spans[b.reader]))
		}
		if o != nil {
			b.socketAttrs(o)
		}
	case DirectionForward, DirectionUnknown:
	}
}

// socketAttrs adds a socket and its owner. The kernel's own sockets have none.
func (b *Builder) socketAttrs(o *event.Owner) {
	if o.Flags&event.OwnerKernel != 0 {
		return
	}
	if o.Flags&event.OwnerProcess != 0 {
		b.add(IntAttr(KeyProcessPID, int64(o.TGID)))
		b.add(IntAttr(KeyThreadID, int64(o.TID)))
		if name := b.names.fixedString(o.Comm); name != "" {
			b.add(StringAttr(KeyThreadName, name))
		}
		if e := b.owners.executable(ThreadOf(o)); e.path != "" {
			b.add(StringAttr(KeyProcessExecutableName, e.name))
			b.add(StringAttr(KeyProcessExecutablePath, e.path))
		}
	}
	b.cgroupAttrs(o.Cgroup)
	b.add(HexAttr(KeySocketAddress, b.skbAddress(o.Sock)))
}

func (b *Builder) cgroupAttrs(id uint64) {
	if id == 0 {
		return
	}
	b.add(IntAttr(KeyCgroupID, int64(id)))
	g := b.owners.cgroup(id)
	if g.path != "" {
		b.add(StringAttr(KeyCgroupPath, g.path))
	}
	if g.container != "" {
		b.add(StringAttr(KeyContainerID, g.container))
	}
	if g.pod != "" {
		b.add(StringAttr(KeyPodUID, g.pod))
	}
}

// receiveEvent puts on the root of a packet that was sent, or forwarded, to
// which socket of this host it came, as an event.
func (b *Builder) receiveEvent() {
	t := &b.trace
	if t.Direction != DirectionTx && t.Direction != DirectionForward {
		return
	}
	o := b.receiver()
	if o == nil {
		return
	}
	from := len(b.attrs)
	b.socketAttrs(o)
	b.add(IntAttr(KeyOffsetNs, int64(o.AtMonoNs-t.EnterMonoNs)))
	b.events = append(b.events, SpanEvent{Name: "receive", UnixNs: t.unix(o.AtMonoNs), Attrs: b.cut(from)})
}
