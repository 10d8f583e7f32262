package recording

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Entry is one entry of a recording. Kind names the members that are set.
type Entry struct {
	Kind     Kind
	Offset   int64             // bytes from the start of the file
	Record   []byte            // KindRecord; valid until the next call of Next
	MonoNs   uint64            // KindTick, KindClose; KindClock: valid from
	OffsetNs int64             // KindClock: CLOCK_REALTIME − CLOCK_MONOTONIC
	Addr     uint64            // KindFunction, KindLocation
	Cgroup   uint64            // KindCgroup: its id
	Value    uint32            // the number of what every other kind names
	Name     string            // of all kinds that name something; KindCgroup, KindExecutable: its path
	Module   string            // KindFunction
	Thread   spans.Thread      // KindExecutable: whose it is
	Counters map[string]uint64 // KindCounters
}

// Reader reads a recording. It is not safe for concurrent use.
type Reader struct {
	r       *bufio.Reader
	file    *os.File // when it was opened by Open
	table   *crc32.Table
	offset  int64 // of what is read next
	buf     []byte
	header  Header
	names   *Names
	records uint64
	entries uint64
	done    error // what Next gives from now on
}

// NewReader reads the start of a recording. The reader's Names are those of the
// entries that Next has come to.
func NewReader(r io.Reader) (*Reader, error) {
	rec := &Reader{
		r:     bufio.NewReaderSize(r, flushAt),
		table: crc32.MakeTable(crc32.Castagnoli),
		names: newNames(),
	}
	if err := rec.readStart(); err != nil {
		return nil, err
	}
	e, err := rec.readEntry()
	switch {
	case err != nil:
		return nil, err
	case e.Kind != KindHeader:
		return nil, rec.damaged(e.Offset, "the first entry is no header")
	}
	rec.names.addOffset(rec.header.StartMonoNs, rec.header.ClockOffsetNs)
	return rec, nil
}

// Open opens the recording in a file. It reads the file once for the names, as
// far as it can be read, so that the reader's Names are complete from the
// start. Close the reader at the end.
func Open(path string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	r, err := open(file)
	if err != nil {
		_ = file.Close() // only read from
		return nil, fmt.Errorf("open recording %s: %w", path, err)
	}
	return r, nil
}

func open(file *os.File) (*Reader, error) {
	first, err := NewReader(file)
	if err != nil {
		return nil, err
	}
	for err == nil { // what ends this pass ends the next one at the same place
		_, err = first.Next()
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read it a second time (copy it to a file first): %w", err)
	}
	r, err := NewReader(file)
	if err != nil {
		return nil, err
	}
	r.file, r.names = file, first.names
	return r, nil
}

// Header says where the recording was made.
func (r *Reader) Header() Header { return r.header }

// Names gives the names and clock offsets, see NewReader and Open.
func (r *Reader) Names() *Names { return r.names }

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Next gives the next entry, io.EOF behind the trailer, and an *Error where the
// file is damaged or cut off; the entries before that are good. Headers and
// trailers are not given. What ended the reading is given again by later calls.
func (r *Reader) Next() (Entry, error) {
	if r.done != nil {
		return Entry{}, r.done
	}
	e, err := r.readEntry()
	switch {
	case err != nil:
	case e.Kind == KindHeader:
		err = r.damaged(e.Offset, "a second header")
	case e.Kind == KindTrailer:
		err = r.checkEnd()
	default:
		r.names.add(&e)
		return e, nil
	}
	r.done = err
	return Entry{}, err
}

// checkEnd gives io.EOF when nothing follows the trailer.
func (r *Reader) checkEnd() error {
	switch _, err := r.r.ReadByte(); {
	case err == nil:
		return r.damaged(r.offset, "something follows the trailer")
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return fmt.Errorf("read recording: %w", err)
	}
}

func (r *Reader) readStart() error {
	start, err := r.read(startSize)
	if n := min(len(start), len(magic)); string(start[:n]) != magic[:n] {
		return &Error{Reason: ErrForeign, Offset: 0}
	}
	if err != nil {
		return err
	}
	if v := binary.LittleEndian.Uint32(start[len(magic):]); v != version {
		return &Error{
			Reason: ErrVersion, Offset: int64(len(magic)),
			Detail: fmt.Sprintf("it has version %d, this program reads version %d", v, version),
		}
	}
	return nil
}

// readEntry gives the next entry, headers and trailers included.
func (r *Reader) readEntry() (Entry, error) {
	at := r.offset
	head, err := r.read(headSize)
	if err != nil {
		return Entry{}, err
	}
	length, kind := binary.LittleEndian.Uint32(head), Kind(head[4])
	if length > maxPayload {
		return Entry{}, &Error{Reason: ErrLength, Offset: at, Detail: fmt.Sprintf("%d bytes", length)}
	}
	sum := crc32.Checksum(head, r.table)
	body, err := r.read(int(length) + sumSize)
	if err != nil {
		return Entry{}, err
	}
	payload := body[:length]
	if crc32.Update(sum, r.table, payload) != binary.LittleEndian.Uint32(body[length:]) {
		return Entry{}, &Error{Reason: ErrChecksum, Offset: at}
	}
	e := Entry{Kind: kind, Offset: at}
	if detail := r.parse(&e, payload); detail != "" {
		return Entry{}, r.damaged(at, detail)
	}
	r.entries++
	return e, nil
}

// read gives the next n bytes, valid until it is called again. When the file
// ends before, it gives those that there are and an ErrTruncated.
func (r *Reader) read(n int) ([]byte, error) {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	got, err := io.ReadFull(r.r, r.buf[:n])
	r.offset += int64(got)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = &Error{Reason: ErrTruncated, Offset: r.offset, Detail: "it has no trailer, what came before is good"}
	default:
		err = fmt.Errorf("read recording at byte %d: %w", r.offset, err)
	}
	return r.buf[:got], err
}

func (r *Reader) damaged(offset int64, detail string) error {
	return &Error{Reason: ErrContent, Offset: offset, Detail: detail}
}

// parse fills e from its payload. It gives what is wrong with it, or "".
func (r *Reader) parse(e *Entry, payload []byte) (detail string) {
	p := payloadReader{rest: payload}
	switch e.Kind {
	case KindHeader:
		return jsonDetail(json.Unmarshal(payload, &r.header))
	case KindCounters:
		return jsonDetail(json.Unmarshal(payload, &e.Counters))
	case KindRecord:
		e.Record = payload
		r.records++
		return ""
	case KindTick, KindClose:
		e.MonoNs = p.uint64()
	case KindFunction:
		e.Addr, e.Name, e.Module = p.uint64(), p.string(), p.string()
	case KindLocation:
		e.Addr, e.Name = p.uint64(), p.string()
	case KindCgroup:
		e.Cgroup, e.Name = p.uint64(), p.string()
	case KindDropReason, KindNetNS, KindDevice, KindOperation, KindRequestFlag:
		e.Value, e.Name = p.uint32(), p.string()
	case KindExecutable:
		e.Thread, e.Name = p.thread(), p.string()
	case KindClock:
		e.MonoNs, e.OffsetNs = p.uint64(), int64(p.uint64())
	case KindTrailer:
		if records, entries := p.uint64(), p.uint64(); records != r.records || entries != r.entries {
			return fmt.Sprintf("the trailer counts %d records in %d entries, there are %d in %d",
				records, entries, r.records, r.entries)
		}
	default:
		return fmt.Sprintf("unknown kind of entry %d", e.Kind)
	}
	if p.short || len(p.rest) > 0 {
		return fmt.Sprintf("%d bytes do not fit an entry of kind %d", len(payload), e.Kind)
	}
	return ""
}

func jsonDetail(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// payloadReader takes numbers and strings off a payload. short is set when it
// had too little.
type payloadReader struct {
	rest  []byte
	short bool
}

func (p *payloadReader) take(n int) []byte {
	if len(p.rest) < n {
		p.short = true
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *payloadReader) uint64() uint64 { return binary.LittleEndian.Uint64(p.take(8)) }
func (p *payloadReader) uint32() uint32 { return binary.LittleEndian.Uint32(p.take(4)) }

func (p *payloadReader) string() string {
	n := int(binary.LittleEndian.Uint16(p.take(2)))
	return string(p.take(n))
}
