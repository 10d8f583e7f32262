package probe

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestProgramHook(t *testing.T) {
	for kind, want := range map[ebpf.ProgramType]event.Hook{
		ebpf.SchedCLS: event.HookTC, ebpf.SchedACT: event.HookTC, ebpf.XDP: event.HookXDP,
		ebpf.Tracing: event.HookNone, ebpf.Kprobe: event.HookNone, ebpf.Extension: event.HookNone,
	} {
		if got := ProgramHook(kind); got != want {
			t.Errorf("%v runs at hook %d, want %d", kind, got, want)
		}
	}
}

func TestFirstFunction(t *testing.T) {
	function := func(name string, arguments int) *btf.Func {
		return &btf.Func{Name: name, Type: &btf.FuncProto{Params: make([]btf.FuncParam, arguments)}}
	}
	for _, c := range []struct {
		name      string
		functions btf.FuncOffsets
		want      string
		err       string
	}{
		{"the first instruction's", btf.FuncOffsets{{Offset: 9, Func: function("sub", 2)}, {Offset: 0, Func: function("main", 1)}}, "main", ""},
		{"none", nil, "", ErrNoProgramBTF.Error()},
		{"two arguments", btf.FuncOffsets{{Func: function("main", 2)}}, "", "its BTF does not say that main takes one argument, the context"},
		{"no prototype", btf.FuncOffsets{{Func: &btf.Func{Name: "main", Type: &btf.Void{}}}}, "", "its BTF does not say that main takes one argument, the context"},
	} {
		got, err := firstFunction(c.functions)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %q, %v, want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
	if _, err := firstFunction(nil); !errors.Is(err, ErrNoProgramBTF) {
		t.Errorf("%v is not ErrNoProgramBTF", err)
	}
}
