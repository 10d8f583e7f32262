package kernel_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel/btftest"
)

func TestReadBlockNames(t *testing.T) {
	flags := []btftest.Name{
		{Name: "__REQ_FAILFAST_DEV", Value: 8},
		{Name: "__REQ_SYNC", Value: 11},
		{Name: "__REQ_RAHEAD", Value: 19},
		{Name: "__REQ_NR_BITS", Value: 20},
	}
	operations := []btftest.Name{
		{Name: "REQ_OP_READ"},
		{Name: "REQ_OP_WRITE", Value: 1},
		{Name: "REQ_OP_WRITE_ZEROES", Value: 9},
		{Name: "REQ_OP_ALIAS", Value: 9},
		{Name: "STAT_READ", Value: 10},
		{Name: "REQ_OP_DRV_OUT", Value: 35},
		{Name: "REQ_OP_LAST", Value: 36},
		{Name: "REQ_OP_FAR", Value: 256},
	}
	for name, enum := range map[string]string{"since 6.0": "req_op", "before": "req_opf"} {
		t.Run(name, func(t *testing.T) {
			b := &btftest.Builder{}
			b.Enum(enum, operations...)
			b.Enum("req_flag_bits", flags...)
			names := kernel.ReadBlockNames(parse(t, b, nil))

			if diff := cmp.Diff([]string{"read", "write", "write_zeroes", "drv_out"}, names.Operations()); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			for op, want := range map[uint8]string{0: "read", 2: "", 9: "write_zeroes", 35: "drv_out", 36: "", 255: ""} {
				if got := names.Operation(op); got != want {
					t.Errorf("Operation(%d) = %q, want %q", op, got, want)
				}
				if got, ok := names.OperationNumber(want); want != "" && (!ok || got != op) {
					t.Errorf("OperationNumber(%q) = %d, %v", want, got, ok)
				}
			}
			for bit, want := range map[uint8]string{0: "", 8: "failfast_dev", 11: "sync", 19: "rahead", 20: "", 255: ""} {
				if got := names.RequestFlag(bit); got != want {
					t.Errorf("RequestFlag(%d) = %q, want %q", bit, got, want)
				}
			}
			for _, unknown := range []string{"", "last", "READ", "stat_read"} {
				if op, ok := names.OperationNumber(unknown); ok {
					t.Errorf("OperationNumber(%q) = %d", unknown, op)
				}
			}
		})
	}
}

func TestReadBlockNamesWithoutBlockLayer(t *testing.T) {
	b := &btftest.Builder{}
	b.Struct("sk_buff", 8)
	names := kernel.ReadBlockNames(parse(t, b, nil))
	if names.Operation(0) != "" || names.RequestFlag(8) != "" || len(names.Operations()) != 0 {
		t.Errorf("a kernel without a block layer names %v", names)
	}
}

// blockTypes builds signatures from the names of their types.
type blockTypes struct {
	btftest.Builder
	ids map[string]uint32
}

func newBlockTypes() *blockTypes {
	b := &blockTypes{}
	number := b.Int("unsigned int", 4, 0)
	pointer := func(name string) uint32 { return b.Ref(kernel.BTFPtr, "", b.Struct(name, 8)) }
	bio := b.Struct("bio", 8)
	b.ids = map[string]uint32{
		"request *":       pointer("request"),
		"bio *":           b.Ref(kernel.BTFPtr, "", bio),
		"const bio *":     b.Ref(kernel.BTFPtr, "", b.Ref(kernel.BTFConst, "", bio)),
		"request_queue *": pointer("request_queue"),
		"work *":          pointer("wb_writeback_work"),
		"bio":             bio,
		"int":             b.Int("int", 4, 1),
		"unsigned":        number,
		"blk_status_t":    b.Ref(kernel.BTFTypedef, "blk_status_t", number),
		"dev_t":           b.Ref(kernel.BTFTypedef, "dev_t", number),
		"sector_t":        b.Ref(kernel.BTFTypedef, "sector_t", number),
	}
	return b
}

func (b *blockTypes) tracepoint(name string, args ...string) {
	extra := []uint32{0, 0} // void *, which every tracepoint passes first
	for _, a := range args {
		extra = append(extra, 0, b.ids[a])
	}
	proto := b.Add(kernel.BTFFuncProto, "", len(extra)/2, 0, extra...)
	b.Ref(kernel.BTFTypedef, "btf_trace_"+name, b.Ref(kernel.BTFPtr, "", proto))
}

func (b *blockTypes) function(name string, params ...string) {
	ids := make([]uint32, len(params))
	for i, p := range params {
		ids[i] = b.ids[p]
	}
	b.Func(name, 0, ids...)
}

// of is a tracepoint that is there, with its object at that position.
func of(object int) kernel.TracepointArgs {
	return kernel.TracepointArgs{Present: true, Object: object, Status: -1, Sector: -1, Device: -1, From: -1}
}

func with(a kernel.TracepointArgs, change func(*kernel.TracepointArgs)) kernel.TracepointArgs {
	change(&a)
	return a
}

// absent has every tracepoint that is asked for, none of them there.
func absent() map[string]kernel.TracepointArgs {
	all := make(map[string]kernel.TracepointArgs)
	for _, name := range []string{
		"block_rq_issue", "block_rq_insert", "block_rq_complete", "block_rq_requeue", "block_rq_merge", "block_io_start",
		"block_bio_queue", "block_bio_complete", "block_bio_remap", "block_split", "writeback_start", "writeback_written",
	} {
		all[name] = with(of(-1), func(a *kernel.TracepointArgs) { a.Present = false })
	}
	return all
}

// The type stands among those of tracepoints.
func TestReadBlockSignaturesPreempted(t *testing.T) {
	b := newBlockTypes()
	b.tracepoint("block_rq_issue", "request *")
	b.Ref(kernel.BTFTypedef, "class_srcu_fast_notrace_t", b.ids["bio"])
	b.tracepoint("block_rq_insert", "request *")
	if s := kernel.ReadBlockSignatures(parse(t, &b.Builder, nil)); !s.Preempted || !s.Tracepoints["block_rq_insert"].Present {
		t.Errorf("signatures %+v, want them preempted", s)
	}
}

// The signatures are those of the kernels that are tested, and of 5.10 before
// 5.10.137, whose tracepoints of requests have the queue in front.
func TestReadBlockSignatures(t *testing.T) {
	tests := []struct {
		name    string
		build   func(*blockTypes)
		want    func(map[string]kernel.TracepointArgs)
		execute int
		noWait  int
	}{
		{"none", func(*blockTypes) {}, func(map[string]kernel.TracepointArgs) {}, -1, -1},
		{"5.10 of old", func(b *blockTypes) {
			b.tracepoint("block_rq_issue", "request_queue *", "request *")
			b.tracepoint("block_rq_complete", "request *", "int", "unsigned")
			b.tracepoint("block_rq_merge", "request_queue *", "request *")
		}, func(m map[string]kernel.TracepointArgs) {
			m["block_rq_issue"], m["block_rq_merge"] = of(1), of(1)
			m["block_rq_complete"] = with(of(0), func(a *kernel.TracepointArgs) { a.Status, a.StatusErrno = 1, true })
		}, -1, -1},
		{"5.10", func(b *blockTypes) {
			b.tracepoint("block_rq_issue", "request *")
			b.tracepoint("block_rq_complete", "request *", "int", "unsigned")
			b.tracepoint("block_bio_queue", "request_queue *", "bio *")
			b.tracepoint("block_bio_remap", "request_queue *", "bio *", "dev_t", "sector_t")
			b.tracepoint("block_split", "request_queue *", "bio *", "unsigned")
			b.tracepoint("writeback_start", "request_queue *", "work *")
			b.function("blk_execute_rq", "request_queue *", "int", "request *", "int")
			b.function("blk_execute_rq_nowait", "request_queue *", "int", "request *", "int", "int")
		}, func(m map[string]kernel.TracepointArgs) {
			m["block_rq_issue"], m["block_bio_queue"], m["writeback_start"] = of(0), of(1), of(-1)
			m["block_rq_complete"] = with(of(0), func(a *kernel.TracepointArgs) { a.Status, a.StatusErrno = 1, true })
			m["block_bio_remap"] = with(of(1), func(a *kernel.TracepointArgs) { a.Device, a.From = 2, 3 })
			m["block_split"] = with(of(1), func(a *kernel.TracepointArgs) { a.Sector = 2 })
		}, 2, 2},
		{"6.12", func(b *blockTypes) {
			b.tracepoint("block_rq_complete", "request *", "blk_status_t", "unsigned")
			b.tracepoint("block_io_start", "request *")
			b.tracepoint("block_bio_queue", "const bio *")
			b.tracepoint("block_bio_complete", "request_queue *", "bio *")
			b.tracepoint("block_bio_remap", "bio *", "dev_t", "sector_t")
			b.tracepoint("block_split", "bio *", "unsigned")
			b.tracepoint("block_rq_error", "request *", "blk_status_t", "unsigned") // not asked for
			b.function("blk_execute_rq", "request *", "int")
		}, func(m map[string]kernel.TracepointArgs) {
			m["block_rq_complete"] = with(of(0), func(a *kernel.TracepointArgs) { a.Status = 1 })
			m["block_io_start"], m["block_bio_queue"], m["block_bio_complete"] = of(0), of(0), of(1)
			m["block_bio_remap"] = with(of(0), func(a *kernel.TracepointArgs) { a.Device, a.From = 1, 2 })
			m["block_split"] = with(of(0), func(a *kernel.TracepointArgs) { a.Sector = 1 })
		}, 0, -1},
		{"arguments that are missing", func(b *blockTypes) {
			b.tracepoint("block_rq_issue", "request_queue *", "bio *")
			b.tracepoint("block_rq_complete", "request *")
			b.tracepoint("block_bio_remap", "bio *", "dev_t")
			b.tracepoint("block_split", "bio", "unsigned") // a struct by value
			b.tracepoint("block_bio_queue")
			b.Ref(kernel.BTFTypedef, "btf_trace_block_rq_merge", b.ids["int"]) // points to no prototype
			b.Ref(kernel.BTFTypedef, "btf_trace_block_rq_insert", b.ids["bio *"])
			b.function("blk_execute_rq", "int")
		}, func(m map[string]kernel.TracepointArgs) {
			m["block_rq_issue"], m["block_rq_complete"], m["block_split"], m["block_bio_queue"] = of(-1), of(0), of(-1), of(-1)
			m["block_bio_remap"] = with(of(0), func(a *kernel.TracepointArgs) { a.Device = 1 })
		}, -1, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBlockTypes()
			tt.build(b)
			want := kernel.BlockSignatures{Tracepoints: absent(), Execute: tt.execute, ExecuteNoWait: tt.noWait}
			tt.want(want.Tracepoints)
			if diff := cmp.Diff(want, kernel.ReadBlockSignatures(parse(t, &b.Builder, nil))); diff != "" {
				t.Errorf("signatures (-want +got):\n%s", diff)
			}
		})
	}
}
