//go:build vm

package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/applications"
)

// These tests load a program into the running kernel. They need root:
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
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	attachType, err := bpf.StatementAttachType(types)
	if err != nil {
		t.Fatal(err)
	}
	program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: attachType, License: "GPL", Instructions: asm.Instructions{
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

// tells is set in the environment of a process that calls told when its standard input
// ends.
const tells = "OTEL_KPROBE_TEST_TELLS"

func TestMain(m *testing.M) {
	if os.Getenv(tells) == "" {
		os.Exit(m.Run())
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
	told(uint64(os.Getpid()), 0, 0, 0, 0, 0)
}

// overlays mounts count overlay file systems of one directory, which has the test's own
// program, and gives its paths.
func overlays(t *testing.T, count int) (paths []string) {
	t.Helper()
	if out, err := exec.Command("modprobe", "overlay").CombinedOutput(); err != nil {
		t.Fatalf("load overlay: %v\n%s", err, out)
	}
	dir := t.TempDir()
	// The test's directory may be on an overlay itself, which cannot be the upper one.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // the machine is thrown away
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Mkdir(dir+"/lower", 0o700), os.WriteFile(dir+"/lower/app", own, 0o700))
	for i := range count {
		at := fmt.Sprintf("%s/%d", dir, i)
		for _, name := range []string{"", "/upper", "/work", "/merged"} {
			err = errors.Join(err, os.Mkdir(at+name, 0o700))
		}
		err = errors.Join(err, unix.Mount("overlay", at+"/merged", "overlay", 0,
			"lowerdir="+dir+"/lower,upperdir="+at+"/upper,workdir="+at+"/work"))
		t.Cleanup(func() { _ = unix.Unmount(at+"/merged", unix.MNT_DETACH) }) // as above
		paths = append(paths, at+"/merged/app")
	}
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestKernelAttachOverlay expects the program of two containers of one image to be found
// once, and the calls of both to be seen once each.
func TestKernelAttachOverlay(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	var ends []func() error
	for _, path := range overlays(t, 2) {
		process := exec.Command(path)
		process.Env = []string{tells + "=1"}
		in, err := process.StdinPipe()
		if err := errors.Join(err, process.Start()); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, func() error { return errors.Join(in.Close(), process.Wait()) })
	}
	program, read := lastArguments(t)
	finder := applications.NewFinder(tolds)
	changes, err := finder.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	attached := 0
	for _, found := range changes.Found {
		if found.Name == "app" {
			attached++
			l, err := AttachApplication(program, found)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() }) // nothing is lost with it
		}
		if err := found.File.Close(); err != nil {
			t.Error(err)
		}
	}
	if attached != 1 {
		t.Errorf("found %d programs, want one for both", attached)
	}
	for i, end := range ends {
		if err := end(); err != nil {
			t.Error(err)
		}
		if got := read()[0]; got != uint64(i+1) {
			t.Errorf("%d calls were seen when %d processes had made one", got, i+1)
		}
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
