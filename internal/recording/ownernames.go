package recording

import (
	"encoding/binary"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Executable writes the path of the program that a thread ran.
func (w *Writer) Executable(t spans.Thread, path string) error {
	p := binary.LittleEndian.AppendUint32(nil, t.TGID)
	p = binary.LittleEndian.AppendUint32(p, t.TID)
	return w.write(KindExecutable, appendString(append(p, t.Comm[:]...), path))
}

func (p *payloadReader) thread() spans.Thread {
	return spans.Thread{TGID: p.uint32(), TID: p.uint32(), Comm: [16]byte(p.take(16))}
}

// RecordedOwnerNames is RecordedNames for the owners of sockets.
type RecordedOwnerNames struct {
	Names  spans.OwnerNames
	Writer *Writer
}

var _ spans.OwnerNames = RecordedOwnerNames{}

// Cgroup implements spans.OwnerNames.
func (n RecordedOwnerNames) Cgroup(id uint64) string {
	path := n.Names.Cgroup(id)
	_ = n.Writer.Cgroup(id, path) // the Writer keeps the error for Close
	return path
}

// Executable implements spans.OwnerNames.
func (n RecordedOwnerNames) Executable(t spans.Thread) string {
	path := n.Names.Executable(t)
	_ = n.Writer.Executable(t, path) // see Cgroup
	return path
}
