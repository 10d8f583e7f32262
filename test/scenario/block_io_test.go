//go:build vm

package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sectorSize is the unit of the block layer's positions, whatever the disk's is.
const sectorSize = 512

// openDisk opens a disk or file for direct I/O.
func openDisk(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return fd
}

func closeDisk(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

// aligned is memory that begins on a page, as direct I/O wants it.
func aligned(t *testing.T, bytes int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) }) // memory of our own
	for i := range b {
		b[i] = byte(i) // zram stores no pages of a single value
	}
	return b
}

// writeDirect writes once, past the page cache.
func writeDirect(t *testing.T, path string, sector uint64, bytes int) {
	t.Helper()
	fd := openDisk(t, path, unix.O_WRONLY|unix.O_DIRECT)
	defer closeDisk(t, fd)
	if n, err := unix.Pwrite(fd, aligned(t, bytes), int64(sector*sectorSize)); err != nil || n != bytes {
		t.Errorf("write %d bytes to %s: %d, %v", bytes, path, n, err)
	}
}

// readDirect reads once, past the page cache, and returns the error.
func readDirect(t *testing.T, path string, sector uint64, bytes int) error {
	t.Helper()
	fd := openDisk(t, path, unix.O_RDONLY|unix.O_DIRECT)
	defer closeDisk(t, fd)
	_, err := unix.Pread(fd, aligned(t, bytes), int64(sector*sectorSize))
	return err
}

// ioctl passes a pointer to memory that the caller keeps.
func ioctl(fd int, request uint, argument unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}

// discard tells a disk that it may forget sectors.
func discard(t *testing.T, d disk, sector, bytes uint64) {
	t.Helper()
	fd := openDisk(t, d.node(), unix.O_WRONLY)
	defer closeDisk(t, fd)
	extent := [2]uint64{sector * sectorSize, bytes}
	if err := ioctl(fd, unix.BLKDISCARD, unsafe.Pointer(&extent)); err != nil {
		t.Errorf("discard on %s: %v", d, err)
	}
}

// addPartition adds a partition without a table on the disk.
func addPartition(t *testing.T, d disk, e extent) disk {
	t.Helper()
	part := unix.BlkpgPartition{Start: int64(e.start * sectorSize), Length: int64(e.length * sectorSize), Pno: 1}
	call := func(op int32) error {
		fd := openDisk(t, d.node(), unix.O_RDONLY)
		defer closeDisk(t, fd)
		arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
		defer runtime.KeepAlive(&part)
		return ioctl(fd, unix.BLKPG, unsafe.Pointer(&arg))
	}
	if err := call(unix.BLKPG_ADD_PARTITION); err != nil {
		t.Fatalf("add a partition to %s: %v", d, err)
	}
	t.Cleanup(func() {
		if err := call(unix.BLKPG_DEL_PARTITION); err != nil {
			t.Errorf("remove the partition of %s: %v", d, err)
		}
	})
	name := disk(string(d) + "p1")
	await(t, name.node(), true)
	return name
}

// sectorOf is where a file's first byte is on its disk (FIBMAP). The file system
// has blocks of 4096 bytes.
func sectorOf(t *testing.T, file string) uint64 {
	t.Helper()
	const fibmap = 1
	fd := openDisk(t, file, unix.O_RDONLY)
	defer closeDisk(t, fd)
	block := int32(0)
	if err := ioctl(fd, fibmap, unsafe.Pointer(&block)); err != nil || block == 0 {
		t.Fatalf("find %s on its disk: block %d, %v", file, block, err)
	}
	return uint64(block) * (4096 / sectorSize)
}

// gatedWriter is a dd that has started and writes when it is told to: so its
// process id is known before, and nothing but the write takes time.
type gatedWriter struct {
	cmd  *exec.Cmd
	gate *os.File
	size int
}

// gate starts dd for one block of size bytes, the block'th of the disk, with
// further operands; a reader is one that only copies to nowhere.
func gate(t *testing.T, size int, block uint64, path string, operands ...string) *gatedWriter {
	t.Helper()
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"of=" + path, "iflag=fullblock", "bs=" + strconv.Itoa(size), "count=1",
		"seek=" + strconv.FormatUint(block, 10), "conv=notrunc", "status=none",
	}
	w := &gatedWriter{cmd: exec.Command("dd", append(args, operands...)...), gate: to, size: size}
	w.cmd.Stdin, w.cmd.Stderr = from, os.Stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		_ = w.gate.Close() // it may be closed, and dd gone
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
	w.waitAtGate(t)
	return w
}

func (w *gatedWriter) pid() int64 { return int64(w.cmd.Process.Pid) }

// waitAtGate waits until dd reads from the pipe.
func (w *gatedWriter) waitAtGate(t *testing.T) {
	t.Helper()
	w.waitIn(t, unix.SYS_READ, 0)
}

// waitAtDisk waits until dd waits for its write: the block layer has it.
func (w *gatedWriter) waitAtDisk(t *testing.T) {
	t.Helper()
	w.waitIn(t, unix.SYS_WRITE, 1)
}

// waitIn waits until dd sleeps in a system call on a file descriptor.
func (w *gatedWriter) waitIn(t *testing.T, call, fd int) {
	t.Helper()
	path := "/proc/" + strconv.Itoa(w.cmd.Process.Pid) + "/syscall"
	want := fmt.Sprintf("%d %#x ", call, fd) // the other arguments follow
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(text), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("dd does not come to system call %q: %s", want, text)
		}
	}
}

// join puts dd into a cgroup.
func (w *gatedWriter) join(t *testing.T, cgroup string) {
	t.Helper()
	write(t, filepath.Join(cgroupRoot, cgroup), "cgroup.procs", strconv.Itoa(w.cmd.Process.Pid))
}

// open lets dd write.
func (w *gatedWriter) open(t *testing.T) {
	t.Helper()
	if _, err := w.gate.Write(make([]byte, w.size)); err != nil {
		t.Error(err)
	}
}

// finish is open, and waits for the end of dd.
func (w *gatedWriter) finish(t *testing.T) {
	t.Helper()
	w.open(t)
	w.wait(t)
}

func (w *gatedWriter) wait(t *testing.T) {
	t.Helper()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("%q: %v", w.cmd.Args, err)
	}
}

const cgroupRoot = "/sys/fs/cgroup"

// makeCgroup makes a cgroup whose dirty pages are accounted to it: that takes
// the memory and io controllers together.
func makeCgroup(t *testing.T, name string) {
	t.Helper()
	write(t, cgroupRoot, "cgroup.subtree_control", "+memory +io")
	dir := filepath.Join(cgroupRoot, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
}

// waitIssued waits until a driver has a request of the disk.
func waitIssued(t *testing.T, d disk) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var reads, writes int
		if _, err := fmt.Sscan(readText(t, d.sysfs("inflight")), &reads, &writes); err != nil {
			t.Fatal(err)
		}
		if reads+writes > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s gets nothing to do", d)
		}
	}
}

// monoNs reads CLOCK_MONOTONIC.
func monoNs(t *testing.T) uint64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return uint64(now.Nano())
}
