package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// layouts pairs the structs that both sides see with their Go types.
func layouts() map[string]any {
	return map[string]any{
		"frame_record":   classicFrameRecord{},
		"facts_record":   classicFactsRecord{},
		"clone_record":   classicCloneRecord{},
		"end_record":     classicEndRecord{},
		"link_record":    classicLinkRecord{},
		"owner_record":   classicOwnerRecord{},
		"owner_settings": classicOwnerSettings{},
		"app_record":     classicAppRecord{},
		"payload_record": classicPayloadRecord{},
		"app_settings":   classicAppSettings{},
		"told_context":   classicToldContext{},
		"started_span":   classicStartedSpan{},
		"goroutine":      classicGoroutine{},
		"open_head":      classicOpenHead{},
		"socket_writes":  classicSocketWrites{},
		"socket_owner":   classicSocketOwner{},

		"conntrack_record": classicConntrackRecord{},
		"conntrack_tuple":  classicConntrackTuple{},
		"rule_record":      classicRuleRecord{},
		"rule_walk":        classicRuleWalk{},

		"probe_settings": classicProbeSettings{},
		"tracked_skb":    classicTrackedSkb{},
		"slot":           classicSlot{},
		"cpu_state":      classicCpuState{},
		"own_flow":       classicOwnFlow{},
		"extra_settings": classicExtraSettings{},
		"stack_record":   classicStackRecord{},
		"caller_record":  classicCallerRecord{},
		"fields_record":  classicFieldsRecord{},
		"tracked_buffer": classicTrackedBuffer{},
		"open_run":       classicOpenRun{},
	}
}

func objects(t *testing.T) map[string]*ebpf.CollectionSpec {
	t.Helper()
	session, err := loadSession()
	if err != nil {
		t.Fatal(err)
	}
	classic, err := loadClassic()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*ebpf.CollectionSpec{"session": session, "classic": classic}
}

func TestLayoutsOfCAndGoAgree(t *testing.T) {
	for object, spec := range objects(t) {
		for name, value := range layouts() {
			t.Run(object+"/"+name, func(t *testing.T) {
				var c *btf.Struct
				if err := spec.Types.TypeByName(name, &c); err != nil {
					if object == "session" && (strings.HasSuffix(name, "_record") || name == "conntrack_tuple") {
						t.Skip("only used through pointers there: not in the object's BTF")
					}
					t.Fatal(err)
				}
				want := membersOfC(t, c)
				if diff := cmp.Diff(want, membersOfGo(reflect.TypeOf(value))); diff != "" {
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

// membersOfC lists "offset size" of each member.
func membersOfC(t *testing.T, c *btf.Struct) []string {
	t.Helper()
	var members []string
	for _, m := range c.Members {
		if m.BitfieldSize != 0 {
			t.Errorf("%s is a bit field", m.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, fmt.Sprint(m.Offset.Bytes(), " ", size))
	}
	return members
}

func membersOfGo(g reflect.Type) []string {
	var members []string
	for i := range g.NumField() {
		f := g.Field(i)
		if f.Type.Size() == 0 { // structs.HostLayout
			continue
		}
		members = append(members, fmt.Sprint(f.Offset, " ", f.Type.Size()))
	}
	return members
}

func checkNoImplicitPadding(t *testing.T, c *btf.Struct) {
	t.Helper()
	next := uint32(0)
	for _, m := range c.Members {
		if m.Offset.Bytes() != next {
			t.Errorf("%d bytes of implicit padding before %s", m.Offset.Bytes()-next, m.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		next = m.Offset.Bytes() + uint32(size)
	}
	if next != c.Size {
		t.Errorf("%d bytes of implicit padding at the end", c.Size-next)
	}
}

func TestRecordSizes(t *testing.T) {
	for kind, record := range map[event.Kind]any{
		event.KindFrame: classicFrameRecord{},
		event.KindClone: classicCloneRecord{},
		event.KindEnd:   classicEndRecord{},
		event.KindLink:  classicLinkRecord{},
		event.KindOwner: classicOwnerRecord{},
		event.KindApp:   classicAppRecord{},

		event.KindConntrack: classicConntrackRecord{},
		event.KindRule:      classicRuleRecord{},

		event.KindRequest: blockBlockRecord{},
		event.KindBio:     blockBlockRecord{},
		event.KindMerge:   blockBlockRecord{},
		event.KindRequeue: blockBlockRecord{},
	} {
		if got, want := recordBytes(kind), binary.Size(record); got != want {
			t.Errorf("record of kind %d: decoder expects %d bytes, C has %d", kind, got, want)
		}
	}
	if got, want := recordBytes(event.KindFacts)+factsTailBytes, binary.Size(classicFactsRecord{}); got != want {
		t.Errorf("facts of a sampled packet: decoder expects %d bytes, C has %d", got, want)
	}
}

// The numbers of C's enums are those of the Go constants.
func TestEnums(t *testing.T) {
	tests := []struct {
		object, enum string
		want         map[string]uint64
	}{
		{"session", "function_mode", map[string]uint64{
			"MODE_ARGUMENT":  uint64(sessionFunctionModeMODE_ARGUMENT),
			"MODE_INDIRECT":  uint64(sessionFunctionModeMODE_INDIRECT),
			"MODE_NO_START":  uint64(sessionFunctionModeMODE_NO_START),
			"MODE_KIN":       uint64(sessionFunctionModeMODE_KIN),
			"MODE_KIN_SHIFT": uint64(sessionFunctionModeMODE_KIN_SHIFT),
			"MODE_SOCK":      uint64(sessionFunctionModeMODE_SOCK),
			"MODE_READS":     uint64(sessionFunctionModeMODE_READS),
			"MODE_END":       uint64(sessionFunctionModeMODE_END),
			"MODE_END_SHIFT": uint64(sessionFunctionModeMODE_END_SHIFT),
		}},
		{"session", "kin", map[string]uint64{
			"KIN_NONE":          uint64(KinNone),
			"KIN_CLONES":        uint64(KinClones),
			"KIN_DERIVES":       uint64(KinDerives),
			"KIN_DERIVES_FIRST": uint64(KinDerivesFirst),
			"KIN_MERGES_ZERO":   uint64(KinMergesZero),
			"KIN_MERGES_TRUE":   uint64(KinMergesTrue),
			"KIN_GATHERS":       uint64(KinGathers),
			"KIN_CHAINS":        uint64(KinChains),
		}},
	}
	for _, tt := range tests {
		var enum *btf.Enum
		if err := objects(t)[tt.object].Types.TypeByName(tt.enum, &enum); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]uint64)
		for _, v := range enum.Values {
			got[v.Name] = v.Value
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-Go +C):\n%s", tt.enum, diff)
		}
	}
}

// Sizes that Go repeats.
func TestMapSizes(t *testing.T) {
	for name, spec := range objects(t) {
		if got := spec.Maps["slots"].MaxEntries; got != slotsPerCPU {
			t.Errorf("%s: slots for one CPU: C %d, Go %d", name, got, slotsPerCPU)
		}
	}
	variables := objects(t)["session"].Variables
	for name, want := range map[string]uint32{"modes": 2 << modeBits, "modes_displacements": 2 << displacementBits} {
		if got := variables[name].Size(); got != want {
			t.Errorf("%s: C %d bytes, Go %d", name, got, want)
		}
	}
}

// No path of the machine that built the objects may be in them.
func TestObjectsHoldNoPaths(t *testing.T) {
	for name, object := range map[string][]byte{
		"session": _SessionBytes, "classic": _ClassicBytes, "block": _BlockBytes, "blockOld": _BlockOldBytes,
	} {
		for _, path := range []string{"/home/", "/root/", "/tmp/", "/bpf/"} {
			if bytes.Contains(object, []byte(path)) {
				t.Errorf("%s object holds a path with %q", name, path)
			}
		}
	}
}
