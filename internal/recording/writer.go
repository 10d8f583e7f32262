package recording

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// flushAt is how many bytes a Writer gathers before it writes them.
const flushAt = 64 << 10

// Writer writes a recording. Its methods may be called concurrently. After an
// error the file is cut off there: every later call gives the same error.
type Writer struct {
	mu      sync.Mutex
	w       io.Writer
	table   *crc32.Table
	buf     []byte
	records uint64
	entries uint64
	closed  bool
	err     error
}

// NewWriter begins a recording on w.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	header, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write recording: %w", err)
	}
	rec := &Writer{
		w:     w,
		table: crc32.MakeTable(crc32.Castagnoli),
		buf:   make([]byte, 0, flushAt+4096),
	}
	rec.buf = append(rec.buf, magic...)
	rec.buf = binary.LittleEndian.AppendUint32(rec.buf, version)
	if err := rec.write(KindHeader, header); err != nil {
		return nil, err
	}
	if err := rec.Flush(); err != nil {
		return nil, err
	}
	return rec, nil
}

// Record writes one record of the ring buffer as it is. raw may be reused.
func (w *Writer) Record(raw []byte) error { return w.write(KindRecord, raw) }

// Tick writes a call of Advance of journey.Tracker and blockio.Tracker, and
// hands the file what was gathered, so that a killed program leaves little
// unwritten.
func (w *Writer) Tick(monoNs uint64) error {
	if err := w.write(KindTick, binary.LittleEndian.AppendUint64(nil, monoNs)); err != nil {
		return err
	}
	return w.Flush()
}

// CloseAll writes a call of CloseAll of journey.Tracker and blockio.Tracker.
func (w *Writer) CloseAll(monoNs uint64) error {
	return w.write(KindClose, binary.LittleEndian.AppendUint64(nil, monoNs))
}

// Symbol writes the name of the function at a kernel address, and its module,
// "" for the kernel image itself.
func (w *Writer) Symbol(addr uint64, name, module string) error {
	return w.write(KindFunction, appendString(appendString(binary.LittleEndian.AppendUint64(nil, addr), name), module))
}

// Location writes the name of an address inside a function, symbol+0xoffset.
func (w *Writer) Location(addr uint64, symbol string) error {
	return w.write(KindLocation, appendString(binary.LittleEndian.AppendUint64(nil, addr), symbol))
}

// DropReason writes the name of a value of enum skb_drop_reason.
func (w *Writer) DropReason(value uint32, name string) error {
	return w.writeName(KindDropReason, value, name)
}

// NetNS writes the name of a network namespace.
func (w *Writer) NetNS(inum uint32, name string) error {
	return w.writeName(KindNetNS, inum, name)
}

func (w *Writer) writeName(k Kind, number uint32, name string) error {
	return w.write(k, appendString(binary.LittleEndian.AppendUint32(nil, number), name))
}

// ClockOffset writes CLOCK_REALTIME − CLOCK_MONOTONIC, in nanoseconds, for the
// times from validFromMonoNs on.
func (w *Writer) ClockOffset(validFromMonoNs uint64, offsetNs int64) error {
	p := binary.LittleEndian.AppendUint64(nil, validFromMonoNs)
	return w.write(KindClock, binary.LittleEndian.AppendUint64(p, uint64(offsetNs)))
}

// Counters writes what the kernel side counted until now, by name.
func (w *Writer) Counters(counters map[string]uint64) error {
	p, err := json.Marshal(counters)
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return w.write(KindCounters, p)
}

// Flush hands everything gathered to the file.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

// Close writes the trailer. It does not close the file. A second Close does
// nothing but give the first error there was.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.closed = true
	p := binary.LittleEndian.AppendUint64(nil, w.records)
	w.append(KindTrailer, binary.LittleEndian.AppendUint64(p, w.entries))
	return w.flush()
}

func (w *Writer) write(k Kind, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("write recording: an entry of %d bytes is longer than %d", len(payload), maxPayload)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.closed {
		return w.err
	}
	w.append(k, payload)
	if len(w.buf) < flushAt {
		return nil
	}
	return w.flush()
}

func (w *Writer) append(k Kind, payload []byte) {
	from := len(w.buf)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(append(w.buf, byte(k)), payload...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, crc32.Checksum(w.buf[from:], w.table))
	w.entries++
	if k == KindRecord {
		w.records++
	}
}

func (w *Writer) flush() error {
	if w.err != nil {
		return w.err
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		w.err = fmt.Errorf("write recording: %w", err)
	}
	return w.err
}

// appendString cuts what is longer than a string may be; no kernel name is.
func appendString(p []byte, s string) []byte {
	s = s[:min(len(s), maxString)]
	return append(binary.LittleEndian.AppendUint16(p, uint16(len(s))), s...)
}

// RecordedNames gives names and writes each answer to the recording, so that a
// replay can give the same. Ask it from one goroutine only, as a spans.Builder
// does. A namespace keeps the first name that it had, as in the replay.
type RecordedNames struct {
	names  spans.Names
	writer *Writer
	netns  map[uint32]string
}

var _ spans.Names = RecordedNames{}

// NewRecordedNames writes the answers of names to w.
func NewRecordedNames(names spans.Names, w *Writer) RecordedNames {
	return RecordedNames{names: names, writer: w, netns: make(map[uint32]string)}
}

// Function implements spans.Names.
func (n RecordedNames) Function(addr uint64) spans.Function {
	f := n.names.Function(addr)
	_ = n.writer.Symbol(addr, f.Name, f.Module) // the Writer keeps the error for Close
	return f
}

// Location implements spans.Names.
func (n RecordedNames) Location(addr uint64) string {
	symbol := n.names.Location(addr)
	_ = n.writer.Location(addr, symbol) // see Function
	return symbol
}

// DropReason implements spans.Names.
func (n RecordedNames) DropReason(value uint32) string {
	name := n.names.DropReason(value)
	_ = n.writer.DropReason(value, name) // see Function
	return name
}

// NetNS implements spans.Names.
func (n RecordedNames) NetNS(inum uint32, unixNs uint64) string {
	name, known := n.netns[inum]
	if !known {
		name = n.names.NetNS(inum, unixNs)
		n.netns[inum] = name
		_ = n.writer.NetNS(inum, name) // see Function
	}
	return name
}
