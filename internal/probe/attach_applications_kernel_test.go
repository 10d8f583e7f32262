//go:build vm

package probe

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/otel-kprobe/otel-kprobe/internal/applications"
)

// This test loads a program into the running kernel. It needs root:
//
//	go test -tags vm -c ./internal/probe && ./probe.test -test.run Kernel

const tolds = "github.com/otel-kprobe/otel-kprobe/internal/probe.told"

// told is the function of the test's own program that is probed.
//
//go:noinline
func told(what, traceHigh, traceLow, span, parent, fd uint64) {
	sum += what + traceHigh + traceLow + span + parent + fd
}

var sum uint64

// lastArguments makes a program that counts its runs, and keeps what Go gives in RAX
// (the first argument), R8 (the sixth) and R14 (the goroutine).
func lastArguments(t *testing.T) (program *ebpf.Program, read func() [4]uint64) {
	t.Helper()
	values, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 32, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = values.Close() }) // nothing is lost with it
	const r14, r8, rax = 8, 72, 80           // in struct pt_regs
	program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R2, values.FD(), 0),
		asm.LoadMem(asm.R3, asm.R2, 0, asm.DWord),
		asm.Add.Imm(asm.R3, 1),
		asm.StoreMem(asm.R2, 0, asm.R3, asm.DWord),
		asm.LoadMem(asm.R3, asm.R1, rax, asm.DWord),
		asm.StoreMem(asm.R2, 8, asm.R3, asm.DWord),
		asm.LoadMem(asm.R3, asm.R1, r8, asm.DWord),
		asm.StoreMem(asm.R2, 16, asm.R3, asm.DWord),
		asm.LoadMem(asm.R3, asm.R1, r14, asm.DWord),
		asm.StoreMem(asm.R2, 24, asm.R3, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() }) // nothing is lost with it
	return program, func() (v [4]uint64) {
		if err := values.Lookup(uint32(0), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestKernelAttachApplication finds this very process, and expects its calls to be seen
// until the link is closed.
func TestKernelAttachApplication(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	told(0, 0, 0, 0, 0, 0)
	finder := applications.NewFinder(tolds)
	changes, err := finder.Scan(t.Context())
	if err != nil || len(changes.Found) != 1 || changes.Found[0].PID != os.Getpid() {
		t.Fatalf("found %+v, %v, want this process", changes.Found, err)
	}
	program, read := lastArguments(t)
	application := changes.Found[0]
	l, err := AttachApplication(program, application)
	if err != nil {
		t.Fatal(err)
	}
	if err := application.File.Close(); err != nil {
		t.Fatal(err)
	}
	const calls = 7
	for i := range uint64(calls) {
		told(257+i, 0, 0, 0, 0, 42)
	}
	got := read()
	if got[0] != calls || got[1] != 257+calls-1 || got[2] != 42 || got[3] == 0 {
		t.Errorf("runs, RAX, R8 and R14 are %v, want %d, %d, 42 and a goroutine", got, calls, 257+calls-1)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	told(1, 2, 3, 4, 5, 6)
	if after := read(); after != got {
		t.Errorf("after the link was closed there is %v, before %v", after, got)
	}
}
