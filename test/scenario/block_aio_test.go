//go:build vm

package scenario

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// iocb is struct iocb of include/uapi/linux/aio_abi.h.
type iocb struct {
	_      [2]uint64 // data, key, flags of the write
	opcode uint16
	_      uint16
	fd     uint32
	memory unsafe.Pointer
	bytes  uint64
	offset int64
	_      [2]uint64
}

// ioEvent is struct io_event.
type ioEvent struct {
	data, object uint64
	result       int64
	_            int64
}

const iocbWrite = 1

// asyncWriter writes to a disk without waiting.
type asyncWriter struct {
	context uintptr
	fd      int
	started []*iocb // the kernel knows their addresses
}

func newAsyncWriter(t *testing.T, d disk) *asyncWriter {
	t.Helper()
	w := &asyncWriter{fd: openDisk(t, d.node(), unix.O_WRONLY|unix.O_DIRECT)}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 8, uintptr(unsafe.Pointer(&w.context)), 0); errno != 0 {
		t.Fatalf("io_setup: %v", errno)
	}
	return w
}

// start begins a write.
func (w *asyncWriter) start(sector uint64, memory []byte) error {
	c := &iocb{
		opcode: iocbWrite, fd: uint32(w.fd), memory: unsafe.Pointer(&memory[0]), bytes: uint64(len(memory)),
		offset: int64(sector * sectorSize),
	}
	w.started = append(w.started, c)
	if n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, w.context, 1, uintptr(unsafe.Pointer(&c))); errno != 0 || n != 1 {
		return fmt.Errorf("io_submit: %d, %w", n, errno)
	}
	return nil
}

// finish waits for all writes.
func (w *asyncWriter) finish(t *testing.T) {
	t.Helper()
	for range w.started {
		var event ioEvent
		errno := unix.EINTR // the runtime sends signals to its threads
		for errno == unix.EINTR {
			_, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, w.context, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
		}
		if errno != 0 || event.result != ioSize {
			t.Errorf("a write ended with %d: %v", event.result, errno)
		}
	}
	runtime.KeepAlive(w.started)
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, w.context, 0, 0); errno != 0 {
		t.Errorf("io_destroy: %v", errno)
	}
	closeDisk(t, w.fd)
}
