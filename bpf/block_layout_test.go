package bpf

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func specsOfBlock(t *testing.T) map[string]*ebpf.CollectionSpec {
	t.Helper()
	block, err := loadBlock()
	if err != nil {
		t.Fatal(err)
	}
	old, err := loadBlockOld()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*ebpf.CollectionSpec{"block": block, "blockOld": old}
}

func TestBlockLayoutsOfCAndGoAgree(t *testing.T) {
	for object, spec := range specsOfBlock(t) {
		for name, value := range map[string]any{
			"block_record":    blockBlockRecord{},
			"block_settings":  blockBlockSettings{},
			"block_cpu_state": blockBlockCpuState{},
			"request_state":   blockRequestState{},
			"bio_state":       blockBioState{},
			"histogram":       blockHistogram{},
			"histogram_key":   blockHistogramKey{},
		} {
			t.Run(object+"/"+name, func(t *testing.T) {
				var c *btf.Struct
				if err := spec.Types.TypeByName(name, &c); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(membersOfC(t, c), membersOfGo(reflect.TypeOf(value))); diff != "" {
					t.Errorf("members (-C +Go):\n%s", diff)
				}
				if size := binary.Size(value); size != int(c.Size) {
					t.Errorf("size: C %d, Go %d", c.Size, size)
				}
				checkNoImplicitPadding(t, c)
			})
		}
	}
}

// Sizes that Go repeats.
func TestBlockMapSizes(t *testing.T) {
	for object, spec := range specsOfBlock(t) {
		for _, name := range []string{"requests", "bios"} {
			if got := spec.Maps[name].MaxEntries; got != tableEntries {
				t.Errorf("%s: %s: C has %d entries, Go %d", object, name, got, tableEntries)
			}
		}
	}
}

// Each byte of a record is at the offset that the decoder reads: what the
// generated type writes comes out again.
func TestDecodeBlock(t *testing.T) {
	record := blockBlockRecord{
		Kind: 5, Flags: 0x1d, Cpu: 2, Operation: 0x80001, Id: 4, Parent: 5, Address: 6,
		InsertMonoNs: 7, IssueMonoNs: 8, CompleteMonoNs: 9, Sector: 10,
		Device: 11, Partition: 12, Bytes: 13, Done: 14, Status: -15, IoPriority: 16, Bios: 17, Requeues: 18,
	}
	record.Submitter.SubmitMonoNs, record.Submitter.Cgroup = 19, 20
	record.Submitter.Tgid, record.Submitter.Tid = 21, 22
	record.Submitter.Comm = [16]uint8{'d', 'd'}
	record.Submitter.App.TraceId, record.Submitter.App.SpanId = [16]uint8{0: 23, 15: 24}, [8]uint8{0: 25, 7: 26}
	want := event.Block{
		Flags: 0x1d, CPU: 2, Operation: 0x80001, ID: 4, Parent: 5, Address: 6,
		InsertMonoNs: 7, IssueMonoNs: 8, CompleteMonoNs: 9, Sector: 10,
		Device: 11, Partition: 12, Bytes: 13, Done: 14, Status: -15, IOPriority: 16, Bios: 17, Requeues: 18,
		SubmitMonoNs: 19, Cgroup: 20, TGID: 21, TID: 22, Comm: [16]byte{'d', 'd'},
		App: event.AppContext{TraceID: [16]byte{0: 23, 15: 24}, SpanID: [8]byte{0: 25, 7: 26}},
	}
	for _, kind := range []event.Kind{event.KindRequest, event.KindBio, event.KindMerge, event.KindRequeue} {
		record.Kind = uint8(kind)
		raw, err := binary.Append(nil, binary.LittleEndian, &record)
		if err != nil {
			t.Fatal(err)
		}
		var ev event.Event
		if err := Decode(raw, &ev); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(event.Event{Kind: kind, Block: want}, ev); diff != "" {
			t.Errorf("kind %d (-want +got):\n%s", kind, diff)
		}
	}
}
