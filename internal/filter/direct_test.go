package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// fakeKernel returns a spec that holds the given types.
func fakeKernel(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	var b btf.Builder
	for _, typ := range types {
		if _, err := b.Add(typ); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := b.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func options(size uint32, elements uint32, element btf.Type) *btf.Struct {
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	array := &btf.Array{Index: u32, Type: element, Nelems: elements}
	return &btf.Struct{Name: castStruct, Size: size, Members: []btf.Member{
		{Name: "faddr", Type: u32},
		{Name: "__data", Type: array, Offset: btf.Bits(size-elements) * 8},
	}}
}

func TestResolveDirect(t *testing.T) {
	char := &btf.Int{Name: "unsigned char", Size: 1}
	cast := &btf.Func{Name: castKfunc, Type: &btf.FuncProto{Return: &btf.Pointer{Target: &btf.Void{}}}}
	byteType := &btf.Typedef{Name: "u8", Type: char}

	spec := fakeKernel(t, cast, options(16, 0, byteType))
	got, err := ResolveDirect(spec)
	if err != nil {
		t.Fatal(err)
	}
	var fn *btf.Func
	var st *btf.Struct
	if err := errors.Join(spec.TypeByName(castKfunc, &fn), spec.TypeByName(castStruct, &st)); err != nil {
		t.Fatal(err)
	}
	kfuncID, err1 := spec.TypeID(fn)
	typeID, err2 := spec.TypeID(st)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Direct{KfuncID: kfuncID, TypeID: typeID, TypeSize: 16}, got); diff != "" {
		t.Errorf("direct (-want +got):\n%s", diff)
	}
	if err := got.validate(); err != nil {
		t.Error(err)
	}

	refused := map[string]struct {
		types    []btf.Type
		want     string
		notFound bool
	}{
		"no kfunc":         {[]btf.Type{options(16, 0, char)}, "find kfunc bpf_rdonly_cast", true},
		"no struct":        {[]btf.Type{cast}, "find struct ip_options", true},
		"array has an end": {[]btf.Type{cast, options(16, 4, char)}, "does not end in a flexible byte array", false},
		"array of pointers": {
			[]btf.Type{cast, options(16, 0, &btf.Pointer{Target: &btf.Void{}})},
			"does not end in a flexible byte array", false,
		},
		"no members": {[]btf.Type{cast, &btf.Struct{Name: castStruct, Size: 16}}, "does not end in a flexible byte array", false},
		"too large":  {[]btf.Type{cast, options(nearLimit, 0, char)}, "does not end in a flexible byte array", false},
	}
	for name, tc := range refused {
		t.Run(name, func(t *testing.T) {
			_, err := ResolveDirect(fakeKernel(t, tc.types...))
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, btf.ErrNotFound) != tc.notFound {
				t.Errorf("error %v, want one with %q, not found: %v", err, tc.want, tc.notFound)
			}
		})
	}
}
