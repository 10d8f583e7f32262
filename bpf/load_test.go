package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// kernelTypes holds the two structs whose ids are settings.
func kernelTypes(t *testing.T) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder([]btf.Type{
		&btf.Struct{Name: "sk_buff"}, &btf.Struct{Name: "ip_options"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func kfuncIDs() map[string]uint32 {
	ids := make(map[string]uint32)
	for i, name := range Kfuncs() {
		ids[name] = uint32(1000 + i)
	}
	return ids
}

func TestBindKfuncs(t *testing.T) {
	spec, err := loadSession()
	if err != nil {
		t.Fatal(err)
	}
	insns := slices.Clone(spec.Programs[ProgramProbe].Instructions)
	calls := make(map[int64]int)
	for _, ins := range insns {
		if ins.IsKfuncCall() {
			calls[int64(kfuncIDs()[ins.Reference()])]++
		}
	}
	if err := bindKfuncs(insns, kfuncIDs()); err != nil {
		t.Fatal(err)
	}
	bound := make(map[int64]int)
	for _, ins := range insns {
		if ins.OpCode.JumpOp() == asm.Call && ins.Src == asm.PseudoKfuncCall {
			if ins.Reference() != "" {
				t.Errorf("%v still refers to %s", ins, ins.Reference())
			}
			bound[ins.Constant]++
		}
	}
	if diff := cmp.Diff(calls, bound); diff != "" || len(calls) != len(Kfuncs()) {
		t.Errorf("%d kfuncs; calls by id (-before +after):\n%s", len(calls), diff)
	}
}

func TestBindKfuncsNamesWhatIsMissing(t *testing.T) {
	ids := kfuncIDs()
	delete(ids, "bpf_session_cookie")
	_, err := loadSpec(Options{
		Kind: Session, Programs: []string{ProgramProbe}, RingBytes: 1 << 20, CPUs: 1,
		KfuncIDs: ids, KernelTypes: kernelTypes(t),
	})
	if err == nil || !strings.Contains(err.Error(), "bind kfunc bpf_session_cookie") {
		t.Errorf("error %v, want one that names bpf_session_cookie", err)
	}
}

func TestKeepPrograms(t *testing.T) {
	tests := []struct {
		name       string
		kind       Kind
		attachType ebpf.AttachType
		programs   []string
		want       map[string]ebpf.AttachType
	}{
		{
			"session", Session, ebpf.AttachTraceKprobeSession,
			[]string{ProgramProbe, ProgramEndFreed, ProgramKfreeSkb, ProgramRuleVerdict},
			map[string]ebpf.AttachType{
				ProgramRuleVerdict: ebpf.AttachTraceKprobeMulti,

				ProgramProbe:    ebpf.AttachTraceKprobeSession,
				ProgramEndFreed: ebpf.AttachTraceKprobeMulti,
				ProgramKfreeSkb: ebpf.AttachNone,
			},
		},
		{
			"multi", Classic, ebpf.AttachTraceKprobeMulti,
			[]string{ProbeProgram(2, false, false, KinNone), ProgramEndMerged, ProgramLeave},
			map[string]ebpf.AttachType{
				"plain_2":        ebpf.AttachTraceKprobeMulti,
				ProgramEndMerged: ebpf.AttachTraceKprobeMulti,
				ProgramLeave:     ebpf.AttachTraceKprobeMulti,
			},
		},
		{
			"single kprobes", Classic, ebpf.AttachNone,
			[]string{ProbeProgram(0, true, false, KinNone), ProgramEndDeferred},
			map[string]ebpf.AttachType{"indirect_0": ebpf.AttachNone, ProgramEndDeferred: ebpf.AttachNone},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec, err := loadSpec(Options{
				Kind: tt.kind, AttachType: tt.attachType, Programs: tt.programs, RingBytes: 1 << 20, CPUs: 3,
				KfuncIDs: kfuncIDs(), KernelTypes: kernelTypes(t),
			})
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]ebpf.AttachType)
			for name, program := range spec.Programs {
				got[name] = program.AttachType
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			if got := spec.Maps["slots"].MaxEntries; got != 3*slotsPerCPU {
				t.Errorf("%d slots, want %d", got, 3*slotsPerCPU)
			}
		})
	}
}

// Every way of taking an skb has its program in the classic object.
func TestProbePrograms(t *testing.T) {
	spec, err := loadClassic()
	if err != nil {
		t.Fatal(err)
	}
	for arg := range 6 {
		for flags := range 28 {
			indirect, noStart, kin := flags&1 != 0, flags&2 != 0, Kin(flags>>2)
			if name := ProbeProgram(arg, indirect, noStart, kin); spec.Programs[name] == nil {
				t.Errorf("argument %d, indirect %t, noStart %t, kin %d: no program %s", arg, indirect, noStart, kin, name)
			}
		}
	}
}

func TestUnknownProgram(t *testing.T) {
	_, err := loadSpec(Options{Kind: Classic, Programs: []string{"sideways"}})
	if err == nil || !strings.Contains(err.Error(), `"sideways"`) || !strings.Contains(err.Error(), "plain_0") {
		t.Errorf("error %v, want one that names the unknown program and those that exist", err)
	}
}

func TestApplySettings(t *testing.T) {
	o := Options{
		Kind: Session, RingBytes: 1 << 20, NetNS: 7, Mark: 0xabcd, MarkMask: 0xff00, Interface: "a-name-of-15-by",
		EntryOnly: true, HasFuncIP: true, HasReason: true, KernelTypes: kernelTypes(t),
		HasRules: true, XTPrivFirst: true,
	}
	spec, err := loadSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := applySettings(spec, o); err != nil {
		t.Fatal(err)
	}
	var got classicProbeSettings
	if err := spec.Variables["settings"].Get(&got); err != nil {
		t.Fatal(err)
	}
	want := classicProbeSettings{
		Netns: 7, Mark: 0xab00, MarkMask: 0xff00, WakeupBytes: 1 << 18, CrowdedBytes: 1 << 19, HasInterface: 1, HasFuncIp: 1,
		HasReason: 1, EntryOnly: 1, SkBuffId: 1, RawBytesId: 2, HasRules: 1, XtPrivFirst: 1,
	}
	copy(want.Interface[:], "a-name-of-15-by")
	if got != want {
		t.Errorf("settings\n got %+v\nwant %+v", got, want)
	}
	o.Interface = "a-name-of-16-byt"
	if err := applySettings(spec, o); err == nil {
		t.Error("an interface name of 16 bytes was accepted")
	}
	o.Interface, o.KernelTypes = "", emptyTypes(t)
	if err := applySettings(spec, o); !errors.Is(err, btf.ErrNotFound) {
		t.Errorf("error %v without struct sk_buff, want btf.ErrNotFound", err)
	}
}

func emptyTypes(t *testing.T) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestModeEncode(t *testing.T) {
	tests := map[Mode]uint16{
		{}:                                   0,
		{Arg: 5}:                             5,
		{Arg: 1, Indirect: true}:             1 | 1<<3,
		{NoStart: true, End: event.EndFreed}: 1<<4 | 3<<8,
		{Kin: KinClones}:                     1 << 5,
		{Arg: 1, Kin: KinGathers}:            1 | 6<<5,
		{Kin: KinChains}:                     7 << 5,
		{Arg: 2, NoStart: true, End: event.EndHow(5)}: 2 | 1<<4 | 5<<8,
	}
	for mode, want := range tests {
		if got := mode.encode(); got != want {
			t.Errorf("%+v: got %#x, want %#x", mode, got, want)
		}
	}
}

// Every function is found again under its own mode, for as many functions as
// kernels have, at the alignment that they have.
func TestHashModes(t *testing.T) {
	for _, count := range []int{0, 1, 200, 2500, 6000} {
		modes := make([]addrMode, 0, count)
		for i := range count {
			addr := 0xffffffff81000000 + uint64(i*i%1499+i*811)*16
			modes = append(modes, addrMode{addr, uint16([]int{0, 0, 0, 1, 0, 2, 16}[i%7])})
		}
		modes = slices.CompactFunc(modes, func(a, b addrMode) bool { return a.addr == b.addr })
		hash, err := hashModes(modes)
		if err != nil {
			t.Fatalf("%d functions: %v", count, err)
		}
		for _, m := range modes {
			if got := hash.mode(m.addr); got != m.mode {
				t.Errorf("%d functions: mode of %#x is %d, want %d", count, m.addr, got, m.mode)
			}
		}
	}
}

func TestHashModesGivesUp(t *testing.T) {
	modes := []addrMode{{16, 1}, {16, 2}}
	if _, err := hashModes(modes); err == nil {
		t.Error("one address with two modes was accepted")
	}
}

// What is generated is what is embedded: neither object may be left behind.
func TestEmbeddedObjectsAreComplete(t *testing.T) {
	for name, spec := range objects(t) {
		programs := slices.Sorted(maps.Keys(spec.Programs))
		for _, program := range []string{ProgramKfreeSkb, ProgramConsumeSkb, ProgramEvict, ProgramEndFreed, ProgramEndMerged, ProgramEndDeferred} {
			if !slices.Contains(programs, program) {
				t.Errorf("%s object has no program %s", name, program)
			}
		}
		if spec.ByteOrder != binary.LittleEndian {
			t.Errorf("%s object is not little endian", name)
		}
	}
	if bytes.Equal(_SessionBytes, _ClassicBytes) {
		t.Error("both objects are the same")
	}
}
