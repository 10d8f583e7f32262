// Package recording writes what the kernel reported to a file and reads it
// again, so that a run can be repeated on any machine without privilege: the
// same records and ticks go through the same stages and give the same spans.
//
// A file is a magic, a version, and entries to the end:
//
//	magic    8 bytes   89 "OKREC" 0d 0a
//	version  u32       2
//	entry    length u32 | kind u8 | payload (length bytes) | CRC-32C u32
//
// Numbers are little-endian. The CRC covers length, kind and payload. The first
// entry is the header, the last the trailer; a file without a trailer was cut
// off, and what came before the cut is good. A string is its length as u16 and
// its bytes. The payloads:
//
//	1 header       JSON of Header
//	2 record       one record of the ring buffer, as it was
//	3 tick         mono_ns u64: Advance of journey.Tracker and blockio.Tracker
//	4 close        mono_ns u64: CloseAll of both
//	5 function     addr u64, name, module
//	6 location     addr u64, symbol
//	7 drop reason  value u32, name
//	8 netns        inum u32, name
//	9 clock        valid_from_mono_ns u64, offset_ns i64
//	10 counters    JSON object of what the kernel side counted, at the end
//	11 trailer     records u64, entries before the trailer u64
//	12 device      dev_t u32 (major << 20 | minor), name
//	13 cgroup      id u64, path
//	14 operation   number u32, name
//	15 flag        bit of the flags of a request u32, name
//	16 executable  tgid u32, tid u32, name of the thread (16 bytes), path
//
// Names stand anywhere: a name is known when the journey or request that needs
// it has ended, behind its last record. So a replay reads the file twice, see
// Open.
package recording

import (
	"errors"
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

const (
	magic     = "\x89OKREC\r\n" // a text-mode copy damages it, as it does PNG's
	version   = 2
	startSize = len(magic) + 4

	headSize = 5 // length and kind
	sumSize  = 4
	// maxPayload is far above the largest record (about 200 bytes) and header.
	maxPayload = 1 << 20
	maxString  = 1<<16 - 1
)

// Kind says what an entry is.
type Kind uint8

// The kinds of entry.
const (
	KindHeader     Kind = 1
	KindRecord     Kind = 2
	KindTick       Kind = 3
	KindClose      Kind = 4
	KindFunction   Kind = 5
	KindLocation   Kind = 6
	KindDropReason Kind = 7
	KindNetNS      Kind = 8
	KindClock      Kind = 9
	KindCounters   Kind = 10
	KindTrailer    Kind = 11

	KindDevice      Kind = 12
	KindCgroup      Kind = 13
	KindOperation   Kind = 14
	KindRequestFlag Kind = 15

	KindExecutable Kind = 16
)

// Header says where and how a recording was made.
type Header struct {
	KernelRelease  string `json:"kernel_release"`
	Architecture   string `json:"architecture"` // as in GOARCH
	BootID         string `json:"boot_id"`
	HostName       string `json:"host_name"`
	HostID         string `json:"host_id"`
	ProgramVersion string `json:"program_version"`
	// StartMonoNs is the CLOCK_MONOTONIC of the start, and ClockOffsetNs is
	// CLOCK_REALTIME − CLOCK_MONOTONIC then.
	StartMonoNs   uint64 `json:"start_mono_ns"`
	ClockOffsetNs int64  `json:"clock_offset_ns"`
	// Seed is spans.Options.Seed of the run: it makes the ids.
	Seed [16]byte `json:"seed"`
	// Tracker is what the run's journey.Tracker was made with.
	Tracker journey.Options `json:"tracker"`
	// Block is what the run's blockio.Tracker was made with, zero when it
	// traced no block requests.
	Block blockio.Options `json:"block"`
	// SkbFields says what the members of an skb are that the run reported, none
	// in recordings of versions that reported none.
	SkbFields []event.SkbField `json:"skb_fields,omitempty"`
	// SampleThreshold is that of the run's --sample; 0: it left nothing out.
	SampleThreshold uint64 `json:"sample_threshold,omitempty"`
}

// The ways in which a file is not a whole recording. An *Error wraps one.
var (
	// ErrForeign says that the file is none of this program's recordings.
	ErrForeign = errors.New("this is not a recording of otel-kprobe")
	// ErrVersion says that another version of the program wrote the file.
	ErrVersion = errors.New("the recording has a format that this version cannot read")
	// ErrTruncated says that the file ends too early; what was read before is good.
	ErrTruncated = errors.New("the recording was cut off")
	// ErrChecksum says that bytes changed since they were written.
	ErrChecksum = errors.New("the recording is damaged: wrong checksum")
	// ErrLength says that an entry claims a length that none has.
	ErrLength = errors.New("the recording is damaged: impossible length")
	// ErrContent says that an entry is whole but makes no sense.
	ErrContent = errors.New("the recording is damaged")
)

// Error says what is wrong with a file and where.
type Error struct {
	Reason error  // one of the errors above
	Offset int64  // bytes from the start of the file to what is wrong
	Detail string // more about it, or ""
}

// Error gives one sentence that names the offset.
func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%v at byte %d", e.Reason, e.Offset)
	}
	return fmt.Sprintf("%v at byte %d: %s", e.Reason, e.Offset, e.Detail)
}

// Unwrap gives the Reason.
func (e *Error) Unwrap() error { return e.Reason }
