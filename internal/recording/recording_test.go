package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

func testHeader() Header {
	return Header{
		KernelRelease: "6.12.57+deb13-cloud-amd64", Architecture: "amd64", BootID: "b", HostName: "h", HostID: "i",
		ProgramVersion: "v0.1.0", StartMonoNs: 100, ClockOffsetNs: 1_700_000_000_000_000_000,
		Seed: [16]byte{1, 2, 255}, Tracker: journey.Options{LingerNs: 7, MaxFrames: 9},
		Block:     blockio.Options{IdleNs: 11, MaxHeld: 12},
		SkbFields: []event.SkbField{{Name: "skb->pkt_type", At: 8, Bytes: 1, Shift: 5, Bits: 3, Kind: event.FieldUnsigned}},
	}
}

// answers gives a name for everything.
type answers struct{}

func (answers) Function(uint64) spans.Function {
	return spans.Function{Name: "ip_rcv", Module: "vmlinux?"}
}
func (answers) Location(uint64) string      { return "tcp_v4_rcv+0x1f" }
func (answers) DropReason(uint32) string    { return "NO_SOCKET" }
func (answers) NetNS(uint32, uint64) string { return "blue" }
func (answers) Device(uint32) string        { return "nvme0n1" }
func (answers) Cgroup(uint64) string        { return "/system.slice/x.service" }
func (answers) Operation(uint8) string      { return "write_zeroes" }
func (answers) RequestFlag(uint8) string    { return "rahead" }

func (answers) Executable(spans.Thread) string { return "/usr/bin/curl" }

// testFile writes one entry of each kind.
func testFile(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader())
	if err != nil {
		t.Fatal(err)
	}
	names := NewRecordedNames(answers{}, w)
	names.Function(0xffffffff81000000)
	names.Location(0xffffffff81000010)
	names.DropReason(3)
	names.NetNS(4026531840, 1)
	block := RecordedBlockNames{Names: answers{}, Writer: w}
	block.Device(259 << 20)
	block.Cgroup(1<<40 | 77)
	block.Operation(9)
	block.RequestFlag(19)
	owners := RecordedOwnerNames{Names: answers{}, Writer: w}
	owners.Executable(spans.Thread{TGID: 7, TID: 8, Comm: [16]byte{'c', 'u', 'r', 'l'}})
	for _, err := range []error{
		w.Symbol(1, "", ""),
		w.Record([]byte("a record")),
		w.Tick(200),
		w.ClockOffset(300, -5),
		w.Record(nil),
		w.CloseAll(400),
		w.Counters(map[string]uint64{"ring_full": 2}),
		w.Close(),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func testEntries() []Entry {
	return []Entry{
		{Kind: KindFunction, Addr: 0xffffffff81000000, Name: "ip_rcv", Module: "vmlinux?"},
		{Kind: KindLocation, Addr: 0xffffffff81000010, Name: "tcp_v4_rcv+0x1f"},
		{Kind: KindDropReason, Value: 3, Name: "NO_SOCKET"},
		{Kind: KindNetNS, Value: 4026531840, Name: "blue"},
		{Kind: KindDevice, Value: 259 << 20, Name: "nvme0n1"},
		{Kind: KindCgroup, Cgroup: 1<<40 | 77, Name: "/system.slice/x.service"},
		{Kind: KindOperation, Value: 9, Name: "write_zeroes"},
		{Kind: KindRequestFlag, Value: 19, Name: "rahead"},
		{Kind: KindExecutable, Thread: spans.Thread{TGID: 7, TID: 8, Comm: [16]byte{'c', 'u', 'r', 'l'}}, Name: "/usr/bin/curl"},
		{Kind: KindFunction, Addr: 1},
		{Kind: KindRecord, Record: []byte("a record")},
		{Kind: KindTick, MonoNs: 200},
		{Kind: KindClock, MonoNs: 300, OffsetNs: -5},
		{Kind: KindRecord, Record: []byte{}},
		{Kind: KindClose, MonoNs: 400},
		{Kind: KindCounters, Counters: map[string]uint64{"ring_full": 2}},
	}
}

// readAll gives the entries, without their offsets, and what ended the reading.
func readAll(r *Reader) ([]Entry, error) {
	var all []Entry
	for {
		e, err := r.Next()
		if err != nil {
			return all, err
		}
		if e.Record != nil {
			e.Record = append([]byte{}, e.Record...)
		}
		e.Offset = 0
		all = append(all, e)
	}
}

func readBytes(file []byte) ([]Entry, error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return readAll(r)
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.rec")
	if err := os.WriteFile(path, testFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if d := cmp.Diff(testHeader(), r.Header()); d != "" {
		t.Errorf("header (-want +got):\n%s", d)
	}
	checkNames(t, r.Names()) // before the first Next
	got, err := readAll(r)
	if !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if d := cmp.Diff(testEntries(), got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %v", err)
	}
}

func checkNames(t *testing.T, n *Names) {
	t.Helper()
	type known struct {
		Function, Unknown spans.Function
		Location, NoLoc   string
		Reason, NetNS     string
		Offsets           []int64
		Device, Cgroup    [2]string
		Operation, Flag   [2]string
	}
	got := known{
		Function: n.Function(0xffffffff81000000), Unknown: n.Function(2),
		Location: n.Location(0xffffffff81000010), NoLoc: n.Location(0xffffffff81000000),
		Reason: n.DropReason(3), NetNS: n.NetNS(4026531840, 1),
		Device:    [2]string{n.Device(259 << 20), n.Device(8 << 20)},
		Cgroup:    [2]string{n.Cgroup(1<<40 | 77), n.Cgroup(77)},
		Operation: [2]string{n.Operation(9), n.Operation(19)},
		Flag:      [2]string{n.RequestFlag(19), n.RequestFlag(9)},
	}
	for _, at := range []uint64{0, 100, 299, 300, 1 << 62} {
		got.Offsets = append(got.Offsets, n.OffsetNs(at))
	}
	const first = 1_700_000_000_000_000_000
	want := known{
		Function: spans.Function{Name: "ip_rcv", Module: "vmlinux?"},
		Location: "tcp_v4_rcv+0x1f", Reason: "NO_SOCKET", NetNS: "blue",
		Offsets: []int64{first, first, first, -5, -5},
		Device:  [2]string{"nvme0n1"}, Cgroup: [2]string{"/system.slice/x.service"},
		Operation: [2]string{"write_zeroes"}, Flag: [2]string{"rahead"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
}

// Wherever a file is cut, the entries before the cut are given, and then an
// error that names the cut.
func TestTruncated(t *testing.T) {
	file := testFile(t)
	for cut := range file {
		got, err := readBytes(file[:cut])
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrTruncated) || e.Offset != int64(cut) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := testEntries()[:len(got)]
		if d := cmp.Diff(want, got, emptyIsNil()); d != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, d)
		}
	}
	if got, _ := readBytes(file[:len(file)-1]); len(got) != len(testEntries()) {
		t.Errorf("without its last byte: %d entries", len(got))
	}
}

func emptyIsNil() cmp.Option {
	return cmp.Transformer("nil", func(e []Entry) []Entry {
		if len(e) == 0 {
			return nil
		}
		return e
	})
}

// Whatever bit is flipped is noticed, and nothing before it is lost.
func TestDamaged(t *testing.T) {
	file := testFile(t)
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		got, err := readBytes(bad)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if !errors.Is(err, ErrTruncated) && e.Offset > int64(i) {
			t.Fatalf("byte %d: found behind it: %v", i, err)
		}
		if d := cmp.Diff(testEntries()[:len(got)], got, emptyIsNil()); d != "" {
			t.Fatalf("byte %d (-want +got):\n%s", i, d)
		}
	}
}

// entry makes one with a right checksum.
func entry(k Kind, length uint32, payload string) string {
	b := append(binary.LittleEndian.AppendUint32(nil, length), byte(k))
	b = append(b, payload...)
	return string(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func TestErrors(t *testing.T) {
	start := magic + "\x02\x00\x00\x00"
	header := start + entry(KindHeader, 2, "{}")
	at := func(n int) string { return strings.Repeat("\x00", n) }
	tests := []struct {
		name, file string
		reason     error
		want       string
	}{
		{"empty", "", ErrTruncated, "the recording was cut off at byte 0: it has no trailer, what came before is good"},
		{"text", "hello, world, I am a text", ErrForeign, "this is not a recording of otel-kprobe at byte 0"},
		{"short text", "he", ErrForeign, "this is not a recording of otel-kprobe at byte 0"},
		{
			"newer", magic + "\x03\x00\x00\x00", ErrVersion,
			"the recording has a format that this version cannot read at byte 8: " +
				"it has version 3, this program reads version 2",
		},
		{
			"no header", start + entry(KindTick, 8, at(8)), ErrContent,
			"the recording is damaged at byte 12: the first entry is no header",
		},
		{
			"header is no JSON", start + entry(KindHeader, 1, "{"), ErrContent,
			"the recording is damaged at byte 12: unexpected end of JSON input",
		},
		{
			"absurd length", header + "\xff\xff\xff\xff\x02", ErrLength,
			"the recording is damaged: impossible length at byte 23: 4294967295 bytes",
		},
		{
			"second header", header + entry(KindHeader, 2, "{}"), ErrContent,
			"the recording is damaged at byte 23: a second header",
		},
		{
			"unknown kind", header + entry(99, 0, ""), ErrContent,
			"the recording is damaged at byte 23: unknown kind of entry 99",
		},
		{
			"too short", header + entry(KindTick, 7, at(7)), ErrContent,
			"the recording is damaged at byte 23: 7 bytes do not fit an entry of kind 3",
		},
		{
			"too long", header + entry(KindTick, 9, at(9)), ErrContent,
			"the recording is damaged at byte 23: 9 bytes do not fit an entry of kind 3",
		},
		{
			"string too long", header + entry(KindNetNS, 7, at(4)+"\x02\x00a"), ErrContent,
			"the recording is damaged at byte 23: 7 bytes do not fit an entry of kind 8",
		},
		{
			"cgroup id too short", header + entry(KindCgroup, 7, at(4)+"\x01\x00a"), ErrContent,
			"the recording is damaged at byte 23: 7 bytes do not fit an entry of kind 13",
		},
		{
			"device with more", header + entry(KindDevice, 8, at(4)+"\x01\x00ab"), ErrContent,
			"the recording is damaged at byte 23: 8 bytes do not fit an entry of kind 12",
		},
		{
			"operation without name", header + entry(KindOperation, 4, at(4)), ErrContent,
			"the recording is damaged at byte 23: 4 bytes do not fit an entry of kind 14",
		},
		{
			"executable without path", header + entry(KindExecutable, 24, at(24)), ErrContent,
			"the recording is damaged at byte 23: 24 bytes do not fit an entry of kind 16",
		},
		{
			"flag without number", header + entry(KindRequestFlag, 0, ""), ErrContent,
			"the recording is damaged at byte 23: 0 bytes do not fit an entry of kind 15",
		},
		{
			"counters", header + entry(KindCounters, 2, "[]"), ErrContent,
			"the recording is damaged at byte 23: " +
				"json: cannot unmarshal array into Go value of type map[string]uint64",
		},
		{
			"trailer", header + entry(KindTrailer, 16, "\x05"+at(15)), ErrContent,
			"the recording is damaged at byte 23: the trailer counts 5 records in 0 entries, there are 0 in 1",
		},
		{
			"after the trailer", header + entry(KindTrailer, 16, at(8)+"\x01"+at(7)) + "x", ErrContent,
			"the recording is damaged at byte 48: something follows the trailer",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readBytes([]byte(tt.file))
			if !errors.Is(err, tt.reason) {
				t.Fatalf("%v is no %v", err, tt.reason)
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(foreign); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), foreign) {
		t.Errorf("foreign file: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a directory opens")
	}
	cut := filepath.Join(dir, "cut")
	whole := testFile(t)
	if err := os.WriteFile(cut, whole[:len(whole)-40], 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(cut)
	if err != nil {
		t.Fatalf("a file that was cut off does not open: %v", err)
	}
	defer r.Close()
	if _, err := readAll(r); !errors.Is(err, ErrTruncated) {
		t.Errorf("cut file: %v", err)
	}
}

// full is a disk that has room for some bytes.
type full struct{ room int }

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	f.room -= len(p)
	if f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterKeepsItsError(t *testing.T) {
	if _, err := NewWriter(&full{}, testHeader()); !errors.Is(err, errFull) {
		t.Errorf("NewWriter: %v", err)
	}
	w, err := NewWriter(&full{room: 1200}, testHeader())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Record(make([]byte, 500)); err != nil {
		t.Errorf("gathered: %v", err)
	}
	if err := w.Tick(1); err != nil {
		t.Errorf("fits: %v", err)
	}
	_ = w.Record(make([]byte, 500))
	for name, err := range map[string]error{
		"Tick": w.Tick(2), "Record": w.Record(nil), "Flush": w.Flush(), "Close": w.Close(), "again": w.Close(),
	} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriterRefusesWhatNoReaderTakes(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Record(make([]byte, maxPayload+1)); err == nil {
		t.Error("a record that is too long is written")
	}
	for _, err := range []error{w.Record(make([]byte, maxPayload)), w.Symbol(1, strings.Repeat("x", 70000), ""), w.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := readBytes(b.Bytes())
	if !errors.Is(err, io.EOF) || len(got) != 2 || len(got[0].Record) != maxPayload || len(got[1].Name) != maxString {
		t.Errorf("%d entries, %v", len(got), err)
	}
}
