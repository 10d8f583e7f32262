//go:build vm

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// These tests load the programs into the running kernel. They need root:
//
//	go test -tags vm -c ./bpf && ./bpf.test -test.v -test.run Kernel
//
// verifiedLimit bounds the instructions that the verifier walks for one
// program, which is what loading costs; the kernel's own limit is a million. Some 2,000
// of them are about spans of applications. Before Linux 6.8 functions of their own are
// walked even where nothing calls them
// (https://mail.spinics.net/lists/bpf/msg102266.html), so there --correlate=off saves few.
const verifiedLimit = 8500

// sessionLimit is verifiedLimit for the session object, whose one program does what some
// thirty do in the other: all of them that a run needs are verified, this one once.
const sessionLimit = 8750

// askedLimit is verifiedLimit where the socket's owner or what a tunnel carries is
// compared, packets are sampled, or members of the skb are asked for.
const askedLimit = 12000

// verifiedLimitRules is the same of programs that look for a rule: each round of
// their loops is walked.
const verifiedLimitRules = 40000

// loading is one way in which a backend loads an object.
type loading struct {
	name       string
	kind       Kind
	attachType ebpf.AttachType
}

// loadings are those that the running kernel has, the best at the end.
func loadings(t *testing.T, types *btf.Spec) []loading {
	t.Helper()
	ways := []loading{{"kprobe", Classic, ebpf.AttachNone}}
	var enum *btf.Enum
	if err := types.TypeByName("bpf_attach_type", &enum); err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(enum.Values, func(v btf.EnumValue) bool { return v.Name == name })
	}
	if has("BPF_TRACE_KPROBE_MULTI") {
		ways = append(ways, loading{"multi", Classic, ebpf.AttachTraceKprobeMulti})
	}
	if has("BPF_TRACE_KPROBE_SESSION") {
		ways = append(ways, loading{"session", Session, ebpf.AttachTraceKprobeSession})
	}
	return ways
}

func liveKfuncs(t *testing.T, types *btf.Spec) map[string]uint32 {
	t.Helper()
	ids := make(map[string]uint32)
	for _, name := range Kfuncs() {
		var f *btf.Func
		if err := types.TypeByName(name, &f); errors.Is(err, btf.ErrNotFound) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		id, err := types.TypeID(f)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = uint32(id)
	}
	return ids
}

// TestKernelLoadsEveryProgram loads all programs of the object in every way in
// which a backend does, with every setting; in ways that the kernel has a better one
// than, as an old kernel's best is tested there, with the fewest and the most.
func TestKernelLoadsEveryProgram(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	hasFuncIP := features.HaveProgramHelper(ebpf.Kprobe, asm.FnGetFuncIp) == nil
	owner := OwnerFilter{Cgroup: 1, TGID: 1, Comm: "init"}
	variants := map[string]Options{
		"plain":      {Correlate: true, Payload: true, Bases: MemoryBases{1 << 63, 1<<63 + 8}},
		"no apps":    {},
		"entry only": {EntryOnly: true},
		"sampled":    {Correlate: true, Payload: true, Bases: MemoryBases{1 << 63, 1<<63 + 8}, SampleThreshold: 3 << 54},
		"filters":    {NetNS: 1, Mark: 1, MarkMask: 3, Interface: "lo", Tunnel: true, Owner: owner},
		"everything": {
			Correlate: true, Payload: true, SampleThreshold: 1,
			NetNS: 1, Mark: 1, MarkMask: 3, Interface: "lo", Tunnel: true, Owner: owner,
			Callees: true, Extras: allExtras(), TraceTC: true, TraceXDP: true,
			HasRules: true, XTPrivFirst: true, ModuleTypes: nftablesTypes(t), Sheds: true,
		},
	}
	ways := loadings(t, types)
	for i, way := range ways {
		for name, o := range variants {
			if i < len(ways)-1 && name != "plain" && name != "everything" {
				continue
			}
			t.Run(fmt.Sprint(way.name, "/", name), func(t *testing.T) {
				o.Kind, o.AttachType = way.kind, way.attachType
				o.RingBytes, o.CPUs = 1<<20, runtime.NumCPU()
				o.HasFuncIP = hasFuncIP
				o.KernelTypes, o.KfuncIDs = types, liveKfuncs(t, types)
				o.Programs = allPrograms(t, way.kind)
				limit := uint32(verifiedLimit)
				if way.kind == Session {
					limit = sessionLimit
				}
				if o.Tunnel || o.SampleThreshold > 0 {
					limit = askedLimit
				}
				loadAll(t, o, limit)
			})
		}
	}
}

// nftablesTypes loads nf_tables and gives its types, none before Linux 5.11.
func nftablesTypes(t *testing.T) []*btf.Spec {
	t.Helper()
	if out, err := exec.Command("modprobe", "nf_tables").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	types, err := btf.LoadKernelModuleSpec("nf_tables")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return []*btf.Spec{types}
}

func allPrograms(t *testing.T, kind Kind) []string {
	t.Helper()
	load := loadClassic
	if kind == Session {
		load = loadSession
	}
	spec, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, program := range spec.Programs {
		if program.Type != ebpf.Tracing { // those need a target: scenario TestTracePrograms
			names = append(names, name)
		}
	}
	return names
}

func loadAll(t *testing.T, o Options, limit uint32) {
	t.Helper()
	objects, err := Load(o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer objects.Close()
	if o.Kind == Session {
		if err := objects.SetModes(map[uint64]Mode{0xffffffff81000000: {Arg: 2, NoStart: true}}); err != nil {
			t.Error(err)
		}
	}
	for name, program := range objects.Programs {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		verified, ok := info.VerifiedInstructions()
		if !ok {
			continue // Linux 5.16+
		}
		t.Logf("%s: %d verified instructions", name, verified)
		// The classic return program unrolls the walk over a list of clones.
		limit := limit
		if o.HasRules || strings.HasPrefix(name, "nf_") {
			limit = verifiedLimitRules
		}
		if verified > limit && name != ProgramLeave {
			t.Errorf("%s: %d verified instructions, want at most %d", name, verified, limit)
		}
	}
	checkState(t, objects)
	if o.Sheds {
		checkShedding(t, objects)
	}
}

// checkShedding sheds two functions, one of them twice, and restores them.
func checkShedding(t *testing.T, objects *Objects) {
	t.Helper()
	for _, functions := range [][]uint64{{1 << 63}, {1 << 63, 1<<63 + 8}} {
		if err := objects.Shed(functions); err != nil {
			t.Error(err)
		}
	}
	want := map[uint64]uint64{1 << 63: 0, 1<<63 + 8: 0}
	for _, read := range []func() (map[uint64]uint64, error){objects.ShedFrames, objects.Restore} {
		if frames, err := read(); err != nil || !maps.Equal(frames, want) {
			t.Errorf("shed: %v, error %v; want %v", frames, err, want)
		}
	}
	if frames, err := objects.ShedFrames(); err != nil || len(frames) != 0 {
		t.Errorf("shed after all were restored: %v, error %v", frames, err)
	}
}

// checkState reads everything that user space reads of fresh objects.
func checkState(t *testing.T, objects *Objects) {
	t.Helper()
	counters, err := objects.Counters()
	if err != nil || counters != (Counters{}) {
		t.Errorf("fresh counters %+v, error %v", counters, err)
	}
	if live, err := objects.Live(); err != nil || live != 0 {
		t.Errorf("%d tracked skbs, error %v", live, err)
	}
	if count, err := objects.TrackedCount(); err != nil || count != 0 {
		t.Errorf("%d entries of tracked skbs, error %v", count, err)
	}
	if evicted, err := objects.EvictIdle(^uint64(0)); err != nil || evicted != 0 {
		t.Errorf("%d evicted, error %v", evicted, err)
	}
	if open, err := objects.OpenRuns(); err != nil || open != 0 {
		t.Errorf("%d open runs, error %v", open, err)
	}
	if err := objects.ForgetBuffers(^uint64(0)); err != nil {
		t.Error(err)
	}
	if misses, err := objects.RecursionMisses(); err != nil || misses != 0 {
		t.Errorf("%d recursion misses, error %v", misses, err)
	}
}
