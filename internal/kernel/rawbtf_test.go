package kernel_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel/btftest"
)

func parse(t testing.TB, b *btftest.Builder, base *kernel.RawBTF) *kernel.RawBTF {
	t.Helper()
	raw, err := kernel.ParseRawBTF(b.Bytes(), base)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRawBTFSplit(t *testing.T) {
	vmlinux := &btftest.Builder{}
	skb := vmlinux.Struct("sk_buff", 232)
	module := btftest.On(vmlinux)
	alias := module.Ref(kernel.BTFTypedef, "packet_t", skb)
	constant := module.Ref(kernel.BTFConst, "", alias)

	base := parse(t, vmlinux, nil)
	split := parse(t, module, base)
	got, ok := split.Resolve(constant)
	if !ok || got.ID != skb || !split.NameIs(got.NameOff, "sk_buff") {
		t.Errorf("Resolve(%d) = %+v, %v; want type %d, sk_buff", constant, got, ok, skb)
	}
	own, _ := split.Type(alias)
	if name := string(split.Name(own.NameOff)); name != "packet_t" {
		t.Errorf("name of the module's own type = %q", name)
	}
	if _, ok := base.Type(alias); ok {
		t.Error("vmlinux knows the module's type")
	}
	if _, ok := split.Type(split.NextID()); ok {
		t.Error("the type after the last exists")
	}
	if split.NameIs(own.NameOff, "packet") || split.NameIs(own.NameOff, "packet_type") {
		t.Error("NameIs takes a prefix for the name")
	}
}

func TestRawBTFCycle(t *testing.T) {
	b := &btftest.Builder{}
	b.Ref(kernel.BTFConst, "", 2)
	b.Ref(kernel.BTFVolatile, "", 1)
	if got, ok := parse(t, b, nil).Resolve(1); ok {
		t.Errorf("a cycle resolves to %+v", got)
	}
}

func TestParseRawBTFDamaged(t *testing.T) {
	whole := func() []byte {
		b := &btftest.Builder{}
		b.Enum("e", btftest.Name{Name: "A", Value: 1})
		return b.Bytes()
	}
	change := func(at int, to byte) []byte {
		b := whole()
		b[at] = to
		return b
	}
	tests := map[string][]byte{
		"empty":               nil,
		"header cut":          whole()[:23],
		"magic":               change(0, 0),
		"other byte order":    change(0, 0xeb),
		"version":             change(2, 9),
		"header length":       change(4, 3),
		"strings cut":         whole()[:len(whole())-1],
		"strings without end": change(len(whole())-1, 'x'),
		"types beyond file":   change(14, 0xff),
		"unknown kind":        change(24+7, 0x7f),
		"more members":        change(24+4, 200),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := kernel.ParseRawBTF(data, nil); !errors.Is(err, kernel.ErrBadBTF) {
				t.Errorf("error = %v, want ErrBadBTF", err)
			}
		})
	}
}

func TestReadDropReasons(t *testing.T) {
	vmlinux := &btftest.Builder{}
	vmlinux.Enum("skb_drop_reason",
		btftest.Name{Name: "SKB_NOT_DROPPED_YET"}, btftest.Name{Name: "SKB_CONSUMED", Value: 1},
		btftest.Name{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2},
		btftest.Name{Name: "SKB_DROP_REASON_MAX", Value: 3},
		btftest.Name{Name: "SKB_DROP_REASON_SUBSYS_MASK", Value: 0xffff0000})
	vmlinux.Enum("skb_drop_reason_subsys",
		btftest.Name{Name: "SKB_DROP_REASON_SUBSYS_CORE"},
		btftest.Name{Name: "SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE", Value: 1},
		btftest.Name{Name: "SKB_DROP_REASON_SUBSYS_OPENVSWITCH", Value: 3},
		btftest.Name{Name: "SKB_DROP_REASON_SUBSYS_NUM", Value: 4})
	vmlinux.Enum("other_drop_reason", btftest.Name{Name: "NOT_OURS", Value: 2})
	module := btftest.On(vmlinux)
	module.Enum("ovs_drop_reason",
		btftest.Name{Name: "__OVS_DROP_REASON", Value: 0x30000}, btftest.Name{Name: "OVS_DROP_LAST_ACTION", Value: 0x30001})
	base := parse(t, vmlinux, nil)
	reasons := kernel.ReadDropReasons(base, parse(t, module, base))

	got := make(map[uint32]string)
	for _, v := range []uint32{0, 1, 2, 3, 0x10005, 0x30001, 0x30009, 0x90001} {
		got[v] = reasons.Name(v)
	}
	want := map[uint32]string{
		0: "NOT_DROPPED_YET", 1: "CONSUMED", 2: "NOT_SPECIFIED", 3: "UNKNOWN_3",
		0x10005: "MAC80211_UNUSABLE_5", 0x30001: "OVS_DROP_LAST_ACTION", 0x30009: "OPENVSWITCH_9",
		0x90001: "UNKNOWN_589825",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if again := kernel.DropReasonsOf(reasons.All()); again.Name(2) != "NOT_SPECIFIED" || again.Name(0x30001) != "OVS_DROP_LAST_ACTION" {
		t.Error("DropReasonsOf(All()) forgot names")
	}
}

func TestReadDropReasonsOldKernel(t *testing.T) {
	b := &btftest.Builder{}
	b.Struct("sk_buff", 1)
	if name := kernel.ReadDropReasons(parse(t, b, nil)).Name(2); name != "" {
		t.Errorf("a kernel without reasons gives %q", name)
	}
}

func FuzzParseRawBTF(f *testing.F) {
	b := &btftest.Builder{}
	i := b.Int("int", 4, 1)
	p := b.Ref(kernel.BTFPtr, "", b.Struct("sk_buff", 8))
	b.Func("skb_clone", p, p, i)
	b.Enum("skb_drop_reason", btftest.Name{Name: "SKB_CONSUMED", Value: 1})
	f.Add(b.Bytes())
	block := newBlockTypes()
	block.tracepoint("block_rq_complete", "request *", "blk_status_t")
	block.tracepoint("block_bio_remap", "bio *", "dev_t", "sector_t")
	block.function("blk_execute_rq", "request *", "int")
	block.Enum("req_op", btftest.Name{Name: "REQ_OP_DRV_OUT", Value: 35})
	f.Add(block.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, err := kernel.ParseRawBTF(data, nil)
		if err != nil {
			return
		}
		for id := range raw.NextID() {
			typ, ok := raw.Type(id)
			if !ok {
				t.Fatalf("type %d of %d does not exist", id, raw.NextID())
			}
			raw.Name(typ.NameOff)
			raw.Resolve(id)
			typ.IntEncoding()
		}
		kernel.ReadDropReasons(raw)
		kernel.ReadBlockNames(raw)
		kernel.ReadBlockSignatures(raw)
		raw.HasFunc("skb_clone")
		if split, err := kernel.ParseRawBTF(data, raw); err == nil {
			split.Resolve(split.FirstID())
		}
	})
}
