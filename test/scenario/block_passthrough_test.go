//go:build vm

package scenario

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sgIO is struct sg_io_hdr of include/scsi/sg.h.
type sgIO struct {
	interfaceID    int32
	direction      int32
	commandLength  uint8
	maxSenseLength uint8
	iovecs         uint16
	dataLength     uint32
	data           unsafe.Pointer
	command        unsafe.Pointer
	sense          unsafe.Pointer
	timeoutMs      uint32
	flags          uint32
	packID         int32
	_              uint32
	userPointer    uint64
	status         uint8
	maskedStatus   uint8
	msgStatus      uint8
	senseLength    uint8
	hostStatus     uint16
	driverStatus   uint16
	residual       int32
	durationMs     uint32
	info           uint32
	_              uint32
}

const inquiryBytes = 96

// inquire sends INQUIRY to a SCSI disk.
func inquire(t *testing.T, d disk) {
	t.Helper()
	const (
		sgIORequest   = 0x2285
		fromDevice    = -3
		inquiry       = 0x12
		timeoutMs     = 10_000
		versionOfSGIO = 'S'
	)
	fd := openDisk(t, d.node(), unix.O_RDONLY)
	defer closeDisk(t, fd)
	answer := aligned(t, 4096)
	command, sense := [6]byte{inquiry, 0, 0, 0, inquiryBytes}, [32]byte{}
	h := sgIO{
		interfaceID: versionOfSGIO, direction: fromDevice, timeoutMs: timeoutMs,
		commandLength: uint8(len(command)), command: unsafe.Pointer(&command),
		maxSenseLength: uint8(len(sense)), sense: unsafe.Pointer(&sense),
		dataLength: inquiryBytes, data: unsafe.Pointer(&answer[0]),
	}
	err := ioctl(fd, sgIORequest, unsafe.Pointer(&h))
	runtime.KeepAlive(answer)
	if err != nil || h.status != 0 || h.hostStatus != 0 {
		t.Errorf("INQUIRY: %v, status %d, host status %d", err, h.status, h.hostStatus)
	}
}

// nvmeCommand is struct nvme_passthru_cmd of include/uapi/linux/nvme_ioctl.h.
type nvmeCommand struct {
	opcode         uint8
	flags          uint8
	_              uint16
	namespace      uint32
	cdw2, cdw3     uint32
	metadata       uint64
	address        unsafe.Pointer
	metadataLength uint32
	dataLength     uint32
	words          [6]uint32 // 10 to 15 of the command
	timeoutMs      uint32
	result         uint32
}

// identify asks an NVMe controller who it is, on the queue for administration,
// which belongs to no disk.
func identify(t *testing.T, d disk) {
	t.Helper()
	const (
		adminRequest   = 0xc0484e41
		identifyOpcode = 6
		controller     = 1
	)
	fd := openDisk(t, d.node(), unix.O_RDONLY)
	defer closeDisk(t, fd)
	answer := aligned(t, 4096)
	c := nvmeCommand{
		opcode: identifyOpcode, words: [6]uint32{controller},
		address: unsafe.Pointer(&answer[0]), dataLength: uint32(len(answer)),
	}
	err := ioctl(fd, adminRequest, unsafe.Pointer(&c))
	runtime.KeepAlive(answer)
	if err != nil || answer[4] == 0 {
		t.Errorf("identify: %v, serial number %q", err, answer[4:24])
	}
}

// rawRead reads the first sectors of an NVMe disk by a command of its own.
func rawRead(t *testing.T, d disk, bytes int) {
	t.Helper()
	const (
		ioRequest  = 0xc0484e43
		readOpcode = 2
	)
	fd := openDisk(t, d.node(), unix.O_RDONLY)
	defer closeDisk(t, fd)
	namespace, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x4e40, 0) // NVME_IOCTL_ID
	if errno != 0 {
		t.Fatal(errno)
	}
	data := aligned(t, bytes)
	c := nvmeCommand{
		opcode: readOpcode, namespace: uint32(namespace), address: unsafe.Pointer(&data[0]), dataLength: uint32(bytes),
		words: [6]uint32{2: uint32(bytes/sectorSize - 1)}, // number of blocks, less one
	}
	err := ioctl(fd, ioRequest, unsafe.Pointer(&c))
	runtime.KeepAlive(data)
	if err != nil {
		t.Errorf("read by NVMe command: %v", err)
	}
}
