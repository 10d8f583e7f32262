package kernel

import (
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// skbTypes is a kernel of a few types, with an sk_buff that has every way of
// holding a member.
func skbTypes(t *testing.T) *btf.Spec {
	t.Helper()
	u8 := &btf.Int{Name: "unsigned char", Size: 1, Encoding: btf.Unsigned}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Unsigned}
	u32 := &btf.Int{Name: "unsigned int", Size: 4, Encoding: btf.Unsigned}
	s32 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u64 := &btf.Int{Name: "long unsigned int", Size: 8, Encoding: btf.Unsigned}
	u16 := &btf.Int{Name: "short unsigned int", Size: 2, Encoding: btf.Unsigned}
	be16 := &btf.Typedef{Name: "__be16", Type: &btf.Typedef{Name: "__u16", Type: u16}}
	common := &btf.Struct{Name: "sock_common", Size: 24, Members: []btf.Member{
		{Name: "skc_family", Type: u16, Offset: 128},
		{Name: "skc_net", Type: &btf.Struct{Size: 8, Members: []btf.Member{
			{Name: "net", Type: &btf.Pointer{Target: &btf.Fwd{Name: "net", Kind: btf.FwdStruct}}},
		}}},
	}}
	sock := &btf.Struct{Name: "sock", Size: 40, Members: []btf.Member{
		{Name: "__sk_common", Type: common, Offset: 64},
		{Name: "sk_mark", Type: &btf.Const{Type: u32}, Offset: 256},
	}}
	dev := &btf.Struct{Name: "net_device", Size: 32, Members: []btf.Member{
		{Name: "name", Type: &btf.Array{Type: char, Index: u32, Nelems: 16}},
		{Name: "ifindex", Type: s32, Offset: 128},
		{Name: "long_name", Type: &btf.Array{Type: char, Index: u32, Nelems: 17}, Offset: 128},
		{Name: "empty", Type: &btf.Array{Type: char, Index: u32, Nelems: 0}, Offset: 256},
		{Name: "queues", Type: &btf.Array{Type: common, Index: u32, Nelems: 1}},
		{Name: "state", Type: &btf.Enum{Name: "state", Size: 4, Signed: true}},
	}}
	loop := &btf.Struct{Name: "sk_buff", Size: 64}
	loop.Members = []btf.Member{
		{Type: &btf.Union{Size: 16, Members: []btf.Member{
			{Name: "next", Type: &btf.Pointer{Target: loop}},
			{Type: &btf.Struct{Size: 16, Members: []btf.Member{{Name: "dev", Type: &btf.Pointer{Target: dev}, Offset: 64}}}},
		}}},
		{Name: "sk", Type: &btf.Pointer{Target: sock}, Offset: 128},
		{Name: "hash", Type: u32, Offset: 192},
		{Name: "pkt_type", Type: u8, Offset: 226, BitfieldSize: 3},
		{Name: "wide", Type: u64, Offset: 225, BitfieldSize: 64},
		{Name: "protocol", Type: be16, Offset: 240},
		{Name: "cb", Type: &btf.Array{Type: u8, Index: u32, Nelems: 4}, Offset: 256},
		{Name: "count", Type: s32, Offset: 288},
	}
	b, err := btf.NewBuilder([]btf.Type{loop}, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestResolveSkbFields(t *testing.T) {
	types := skbTypes(t)
	paths := []string{
		"skb->hash", "skb->dev->name", "skb->dev->ifindex", "skb->sk->__sk_common.skc_family", "skb->sk->sk_mark",
		"skb->pkt_type", "skb->protocol", "skb->cb", "skb->count", "skb->sk", "skb->next->next->dev->state",
		"skb->sk.__sk_common->skc_net.net",
	}
	got, err := ResolveSkbFields(types, paths)
	if err != nil {
		t.Fatal(err)
	}
	want := []SkbPath{
		{[]uint32{24}, event.SkbField{At: 0, Bytes: 4, Kind: event.FieldUnsigned}},
		{[]uint32{8, 0}, event.SkbField{At: 8, Bytes: 16, Kind: event.FieldText}},
		{[]uint32{8, 16}, event.SkbField{At: 24, Bytes: 4, Kind: event.FieldSigned}},
		{[]uint32{16, 24}, event.SkbField{At: 32, Bytes: 2, Kind: event.FieldUnsigned}},
		{[]uint32{16, 32}, event.SkbField{At: 40, Bytes: 4, Kind: event.FieldUnsigned}},
		{[]uint32{28}, event.SkbField{At: 48, Bytes: 1, Shift: 2, Bits: 3, Kind: event.FieldUnsigned}},
		{[]uint32{30}, event.SkbField{At: 56, Bytes: 2, Kind: event.FieldBigEndian}},
		{[]uint32{32}, event.SkbField{At: 64, Bytes: 4, Kind: event.FieldBytes}},
		{[]uint32{36}, event.SkbField{At: 72, Bytes: 4, Kind: event.FieldSigned}},
		{[]uint32{16}, event.SkbField{At: 80, Bytes: 8, Kind: event.FieldPointer}},
		{[]uint32{0, 0, 8, 0}, event.SkbField{At: 88, Bytes: 4, Kind: event.FieldSigned}},
		{[]uint32{16, 8}, event.SkbField{At: 96, Bytes: 8, Kind: event.FieldPointer}},
	}
	for i := range want {
		want[i].Field.Name = paths[i]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("fields (-want +got):\n%s", d)
	}
	if got, err := ResolveSkbFields(types, nil); got != nil || err != nil {
		t.Errorf("nothing asked for gives %v, error %v", got, err)
	}
}

func TestResolveSkbFieldsRefuses(t *testing.T) {
	types := skbTypes(t)
	for path, want := range map[string]string{
		"skb->hsah":                    `field "skb->hsah": struct sk_buff has no member "hsah"; did you mean "hash"?`,
		"skb->zzzzzz":                  `field "skb->zzzzzz": struct sk_buff has no member "zzzzzz"`,
		"skb->sk->sk_family":           `field "skb->sk->sk_family": struct sock has no member "sk_family"; did you mean "__sk_common.skc_family"?`,
		"skb->sk->sk_marc":             `field "skb->sk->sk_marc": struct sock has no member "sk_marc"; did you mean "sk_mark"?`,
		"skb->sk->__sk_common":         `field "skb->sk->__sk_common": it is a struct sock_common: name one of its members`,
		"skb->hash->x":                 `field "skb->hash->x": "hash" has no members that the kernel's BTF describes, so no "x"`,
		"skb->dev->long_name":          `field "skb->dev->long_name": it has 17 bytes, and 1 to 16 can be reported`,
		"skb->dev->empty":              `field "skb->dev->empty": it has 0 bytes, and 1 to 16 can be reported`,
		"skb->dev->queues":             `field "skb->dev->queues": it is an array of no numbers`,
		"skb->wide":                    `field "skb->wide": its bits lie across more than 8 bytes`,
		"skb->sk->__sk_common.skc_net": `field "skb->sk->__sk_common.skc_net": it is a struct without a name: name one of its members`,

		"skb->sk->__sk_common.skc_net.net->ns":           `field "skb->sk->__sk_common.skc_net.net->ns": "net" has no members that the kernel's BTF describes, so no "ns"`,
		"skb->next->next->next->next->next->next->count": `field "skb->next->next->next->next->next->next->count": it follows more than 5 pointers`,
	} {
		got, err := ResolveSkbFields(types, []string{"skb->hash", path})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, error %v\nwant %s", path, got, err, want)
		}
	}
}

func TestParseSkbFields(t *testing.T) {
	got, err := ParseSkbFields("skb->hash, skb->dev->ifindex")
	if d := cmp.Diff([]string{"skb->hash", "skb->dev->ifindex"}, got); d != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, d)
	}
	for list, want := range map[string]string{
		"skb->hash,":  "a field is empty: name one or more as in skb->hash,skb->dev->ifindex",
		"hash":        `field "hash" does not begin with skb->: name it as in skb->hash or skb->dev->ifindex`,
		"skb->":       `field "skb->" lacks the name of a member`,
		"skb->dev->":  `field "skb->dev->" lacks the name of a member`,
		"skb->dev..x": `field "skb->dev..x" lacks the name of a member`,
	} {
		if got, err := ParseSkbFields(list); err == nil || err.Error() != want {
			t.Errorf("%q: %v, error %v, want %s", list, got, err, want)
		}
	}
}
