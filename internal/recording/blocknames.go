package recording

import (
	"encoding/binary"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Device writes the name of a block device by its dev_t (major << 20 | minor).
func (w *Writer) Device(dev uint32, name string) error { return w.writeName(KindDevice, dev, name) }

// Cgroup writes the path of the cgroup of an id.
func (w *Writer) Cgroup(id uint64, path string) error {
	return w.write(KindCgroup, appendString(binary.LittleEndian.AppendUint64(nil, id), path))
}

// Operation writes the name of an operation of the block layer.
func (w *Writer) Operation(op uint8, name string) error {
	return w.writeName(KindOperation, uint32(op), name)
}

// RequestFlag writes the name of a bit of the flags of a request.
func (w *Writer) RequestFlag(bit uint8, name string) error {
	return w.writeName(KindRequestFlag, uint32(bit), name)
}

// RecordedBlockNames is RecordedNames for what the block layer reports.
type RecordedBlockNames struct {
	Names  spans.BlockNames
	Writer *Writer
}

var _ spans.BlockNames = RecordedBlockNames{}

// Device implements spans.BlockNames.
func (n RecordedBlockNames) Device(dev uint32) string {
	name := n.Names.Device(dev)
	_ = n.Writer.Device(dev, name) // the Writer keeps the error for Close
	return name
}

// Cgroup implements spans.BlockNames.
func (n RecordedBlockNames) Cgroup(id uint64) string {
	path := n.Names.Cgroup(id)
	_ = n.Writer.Cgroup(id, path) // see Device
	return path
}

// Operation implements spans.BlockNames.
func (n RecordedBlockNames) Operation(op uint8) string {
	name := n.Names.Operation(op)
	_ = n.Writer.Operation(op, name) // see Device
	return name
}

// RequestFlag implements spans.BlockNames.
func (n RecordedBlockNames) RequestFlag(bit uint8) string {
	name := n.Names.RequestFlag(bit)
	_ = n.Writer.RequestFlag(bit, name) // see Device
	return name
}
