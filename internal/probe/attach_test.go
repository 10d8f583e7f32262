package probe

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestSessionModes(t *testing.T) {
	modes, left := sessionModes([]Function{
		{Name: "ip_rcv", Addr: 16},
		{Name: "ip_output", Addr: 32, Arg: 2},
		{Name: "__netif_receive_skb_core", Addr: 48, Indirect: true},
		{Name: "skb_clone", Addr: 64, Kin: bpf.KinClones},
		{Name: "kfree_skbmem", Addr: 80, NoStart: true},
		{Name: "kfree_skb_partial", Module: "lookalike", Addr: 96},
	})
	want := map[uint64]bpf.Mode{
		16: {},
		32: {Arg: 2},
		48: {Indirect: true},
		64: {Kin: bpf.KinClones},
		80: {NoStart: true, End: event.EndFreed},
		96: {},
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	var names []string
	for _, end := range left {
		names = append(names, end.function)
	}
	if slices.Contains(names, "kfree_skbmem") || !slices.Contains(names, "kfree_skb_partial") {
		t.Errorf("ends with a probe of their own: %v, want all but kfree_skbmem", names)
	}
	if got, want := len(left), len(endFunctions())-1; got != want {
		t.Errorf("%d ends with a probe of their own, want %d", got, want)
	}
}

// fakeLink stands for what the kernel attached.
type fakeLink struct {
	functions int
}

func (fakeLink) Close() error { return nil }

func TestAttachGroupLeavesOutWhatTheKernelRefuses(t *testing.T) {
	functions := []Function{{Name: "a"}, {Name: "bad"}, {Name: "c"}, {Name: "d"}, {Name: "worse", Module: "m"}}
	errRefused := errors.New("no such function")
	attach := func(o link.KprobeMultiOptions) (io.Closer, error) {
		if slices.Contains(o.Symbols, "bad") || slices.Contains(o.Symbols, "worse") {
			return nil, errRefused
		}
		return fakeLink{functions: len(o.Symbols)}, nil
	}
	links, refused, err := attachGroup(functions, attach)
	if err != nil {
		t.Fatal(err)
	}
	attached := 0
	for _, l := range links {
		attached += l.(fakeLink).functions
	}
	if attached != 3 {
		t.Errorf("%d functions attached, want 3", attached)
	}
	want := []Skipped{{"bad", "", errRefused.Error()}, {"worse", "m", errRefused.Error()}}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestAttachGroupStopsWithoutPermission(t *testing.T) {
	calls := 0
	attach := func(link.KprobeMultiOptions) (io.Closer, error) {
		calls++
		return nil, os.ErrPermission
	}
	if _, _, err := attachGroup(make([]Function, 8), attach); !errors.Is(err, os.ErrPermission) || calls != 1 {
		t.Errorf("error %v after %d calls, want os.ErrPermission after one", err, calls)
	}
}

func TestMultiOptionsPrefersAddresses(t *testing.T) {
	known := []Function{{Name: "a", Addr: 1}, {Name: "b", Addr: 2}}
	if o := multiOptions(known); !slices.Equal(o.Addresses, []uintptr{1, 2}) || o.Symbols != nil {
		t.Errorf("all addresses known: %+v, want addresses alone", o)
	}
	known[1].Addr = 0
	if o := multiOptions(known); !slices.Equal(o.Symbols, []string{"a", "b"}) || o.Addresses != nil {
		t.Errorf("one address unknown: %+v, want symbols alone", o)
	}
}

func TestBackendPrograms(t *testing.T) {
	functions := []Function{{Arg: 0}, {Arg: 2}, {Arg: 2}, {Arg: 1, NoStart: true}, {Arg: 1, Sock: true}}
	always := []string{
		bpf.ProgramKfreeSkb, bpf.ProgramConsumeSkb, bpf.ProgramEvict,
		bpf.ProgramEndFreed, bpf.ProgramEndMerged, bpf.ProgramEndDeferred,
		bpf.ProgramSocketUsed, bpf.ProgramSocketChild, bpf.ProgramSocketGone, bpf.ProgramSocketWritten,
	}
	tests := []struct {
		backend   Backend
		entryOnly bool
		want      []string
	}{
		{BackendSession, false, []string{bpf.ProgramProbe}},
		{BackendSession, true, []string{bpf.ProgramProbe}},
		{BackendMulti, false, []string{"plain_0", "plain_2", "no_start_1", bpf.ProgramSock, bpf.ProgramLeave}},
		{BackendKprobe, true, []string{"plain_0", "plain_2", "no_start_1", bpf.ProgramSock}},
	}
	for _, tt := range tests {
		want := slices.Concat(always, tt.want)
		if diff := cmp.Diff(want, tt.backend.Programs(functions, tt.entryOnly)); diff != "" {
			t.Errorf("%s, entry only %t (-want +got):\n%s", tt.backend, tt.entryOnly, diff)
		}
	}
}
