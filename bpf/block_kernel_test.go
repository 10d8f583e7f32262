//go:build vm

package bpf

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// verifiedBlockLimit bounds the instructions that the verifier walks for one
// block program: one walks the bios of a request.
const verifiedBlockLimit = 200_000

// argumentPosition is where the tracepoint's argument of that pointer type stands.
func argumentPosition(t *testing.T, types *btf.Spec, tracepoint, structName string) int {
	t.Helper()
	var def *btf.Typedef
	if err := types.TypeByName("btf_trace_"+tracepoint, &def); err != nil {
		t.Fatal(err)
	}
	pointer, ok := btf.UnderlyingType(def).(*btf.Pointer)
	if !ok {
		t.Fatalf("%s is no pointer", tracepoint)
	}
	prototype, ok := btf.UnderlyingType(pointer.Target).(*btf.FuncProto)
	if !ok {
		t.Fatalf("%s points to no function", tracepoint)
	}
	for i, param := range prototype.Params[1:] {
		if p, ok := btf.UnderlyingType(param.Type).(*btf.Pointer); ok {
			if s, ok := btf.UnderlyingType(p.Target).(*btf.Struct); ok && s.Name == structName {
				return i
			}
		}
	}
	t.Fatalf("%s has no argument struct %s *", tracepoint, structName)
	return 0
}

func liveBlockArguments(t *testing.T, types *btf.Spec) BlockArguments {
	t.Helper()
	a := BlockArguments{
		Issue:       argumentPosition(t, types, "block_rq_issue", "request"),
		Insert:      argumentPosition(t, types, "block_rq_insert", "request"),
		Requeue:     argumentPosition(t, types, "block_rq_requeue", "request"),
		Complete:    argumentPosition(t, types, "block_rq_complete", "request"),
		Queue:       argumentPosition(t, types, "block_bio_queue", "bio"),
		BioComplete: argumentPosition(t, types, "block_bio_complete", "bio"),
		Remap:       argumentPosition(t, types, "block_bio_remap", "bio"),
		Split:       argumentPosition(t, types, "block_split", "bio"),
	}
	var execute *btf.Func
	if err := types.TypeByName("blk_execute_rq", &execute); err != nil {
		t.Fatal(err)
	}
	for i, param := range execute.Type.(*btf.FuncProto).Params {
		if p, ok := btf.UnderlyingType(param.Type).(*btf.Pointer); ok {
			if s, ok := btf.UnderlyingType(p.Target).(*btf.Struct); ok && s.Name == "request" {
				a.Execute = i
			}
		}
	}
	return a
}

// TestKernelLoadsEveryBlockProgram loads all programs of the object for this
// kernel, with every setting that changes what is verified; of the object for older
// kernels some, where it is not needed.
func TestKernelLoadsEveryBlockProgram(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	arguments := liveBlockArguments(t, types)
	olds := []bool{true}
	if NewBlockObject() == nil {
		olds = append(olds, false)
	}
	ways := loadings(t, types)
	hasSession := ways[len(ways)-1].name == "session"
	tests := map[string]BlockOptions{
		"records":   {Records: true, Bios: true},
		"apps":      {Records: true, Bios: true, Correlate: true},
		"contexts":  {Records: true, Bios: true, Correlate: true, Contexts: longContexts(t)},
		"filters":   {Records: true, Bios: true, Devices: []uint32{1, 2}, Operations: 3, TGID: 1, CgroupID: 1, CgroupLevel: 1, MinLatencyNs: 1},
		"sampled":   {Records: true, Bios: true, Histogram: true, SampleThreshold: 1 << 55},
		"histogram": {Histogram: true},
		"both":      {Records: true, Bios: true, Histogram: true, By: 4, StatusErrno: true},
	}
	for name, o := range tests {
		for _, old := range olds {
			if old && len(olds) > 1 && name != "apps" && name != "histogram" {
				continue // tested on old kernels
			}
			o.Programs, o.OldKernel, o.Arguments = blockProgramNames(t, old), old, arguments
			o.RingBytes, o.KernelTypes = 1<<20, types
			o.LoopMulti = hasSession && name == "apps"
			objects, err := LoadBlock(o)
			var refused *ebpf.VerifierError
			if errors.As(err, &refused) {
				t.Errorf("%s, old %v: %+v", name, old, refused)
				continue
			}
			if err != nil {
				t.Errorf("%s, old %v: %v", name, old, err)
				continue
			}
			checkBlockObjects(t, name, objects)
		}
	}
}

// The kernel's own types tell whether it has the helper.
func TestKernelChoosesTheBlockObject(t *testing.T) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var helper *btf.Func
	missing := types.TypeByName("bpf_loop", &helper)
	if got := NewBlockObject(); (got == nil) != (missing == nil) {
		t.Errorf("the object for newer kernels: %v, though bpf_loop: %v", got, missing)
	}
}

// blockProgramNames are those of all programs of an object.
func blockProgramNames(t *testing.T, old bool) []string {
	t.Helper()
	load := loadBlock
	if old {
		load = loadBlockOld
	}
	spec, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Keys(spec.Programs))
}

func checkBlockObjects(t *testing.T, name string, objects *BlockObjects) {
	t.Helper()
	for program, p := range objects.Programs {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := info.VerifiedInstructions(); ok {
			t.Logf("%s %s: %d instructions verified", name, program, n)
			if n > verifiedBlockLimit {
				t.Errorf("%s: program %s takes the verifier %d instructions, at most %d are allowed", name, program, n, verifiedBlockLimit)
			}
		}
	}
	if _, err := objects.Counters(); err != nil {
		t.Error(err)
	}
	if records, err := objects.InFlight(); err != nil || len(records) > 0 {
		t.Errorf("%d requests in flight with nothing attached, error %v", len(records), err)
	}
	if all, err := objects.Histograms(); err != nil || len(all) > 0 {
		t.Errorf("%d histograms with nothing attached, error %v", len(all), err)
	}
	if err := objects.Close(); err != nil {
		t.Error(err)
	}
}
