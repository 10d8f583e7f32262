package spans

import (
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// BlockNames gives names to the numbers that the block layer reported. A
// RequestBuilder asks for each once and remembers the answer, but for devices: it
// asks for those each time. An unknown number gets an empty string, and the
// RequestBuilder writes the number instead.
type BlockNames interface {
	// Device names a dev_t: "nvme0n1", "sda1".
	Device(dev uint32) string
	// Operation names a value of enum req_op, in lower case and without its
	// prefix: "read", "write", "flush", "write_zeroes".
	Operation(op uint8) string
	// RequestFlag names a flag of a request by the number of its bit, 8 and up:
	// "sync", "meta", "fua".
	RequestFlag(bit uint8) string
	// Cgroup returns the path of a cgroup below the root of cgroup v2:
	// "/system.slice/x.service".
	Cgroup(id uint64) string
}

// blockOperation is what a RequestBuilder knows of an operation.
type blockOperation struct {
	name      string
	root      string // name of a span: "block " and the operation
	direction string // of disk.io.direction, "" for what moves no data
	flush     bool
}

// blockCgroup is what a RequestBuilder knows of a cgroup.
type blockCgroup struct{ path, container string }

// blockFailure is a status with the message of a span that has it.
type blockFailure struct {
	blockStatus
	message string
}

// blockFailureKey tells failures apart.
type blockFailureKey struct {
	status int32
	errno  bool
}

// blockNameCache remembers strings, so that a Build in steady state makes none.
type blockNameCache struct {
	names      BlockNames
	oldStatus  bool
	operations [1 << 8]blockOperation
	flags      [32]string
	numbers    map[uint32]string // of devices without a name
	cgroups    map[uint64]blockCgroup
	priorities map[uint16]string
	failures   map[blockFailureKey]blockFailure
	comms      fixedStrings
}

func newBlockNameCache(o BlockOptions) blockNameCache {
	return blockNameCache{
		names: o.Names, oldStatus: o.StatusBefore610,
		numbers:    map[uint32]string{},
		cgroups:    map[uint64]blockCgroup{},
		priorities: map[uint16]string{},
		failures:   map[blockFailureKey]blockFailure{},
		comms:      fixedStrings{},
	}
}

// devMinorBits is MINORBITS of include/linux/kdev_t.h.
const devMinorBits = 20

// device names a dev_t; it is never empty. The names are not remembered here:
// the number of a device that was removed is given to another one.
func (c *blockNameCache) device(dev uint32) string {
	if s := valid(c.names.Device(dev)); s != "" {
		return s
	}
	if s, ok := c.numbers[dev]; ok {
		return s
	}
	number := strconv.Itoa(int(dev>>devMinorBits)) + ":" + strconv.Itoa(int(dev&(1<<devMinorBits-1)))
	return remember(c.numbers, dev, number)
}

func (c *blockNameCache) operation(op uint8) *blockOperation {
	o := &c.operations[op]
	if o.name != "" {
		return o
	}
	o.name = valid(c.names.Operation(op))
	switch o.name {
	case "":
		o.name = "op " + strconv.Itoa(int(op))
	case "read":
		o.direction = "read"
	case "write", "write_zeroes", "zone_append", "discard", "secure_erase":
		o.direction = "write"
	case "flush":
		o.flush = true
	}
	o.root = "block " + o.name
	return o
}

// flag names a flag of a request by its bit; it is never empty.
func (c *blockNameCache) flag(bit int) string {
	if c.flags[bit] == "" {
		s := valid(c.names.RequestFlag(uint8(bit)))
		if s == "" {
			s = "bit " + strconv.Itoa(bit)
		}
		c.flags[bit] = s
	}
	return c.flags[bit]
}

func (c *blockNameCache) cgroup(id uint64) blockCgroup {
	if g, ok := c.cgroups[id]; ok {
		return g
	}
	path := valid(c.names.Cgroup(id))
	return remember(c.cgroups, id, blockCgroup{path, strings.Clone(ContainerID(path))})
}

// The parts of an I/O priority (include/uapi/linux/ioprio.h): above the level
// newer kernels keep a hint.
const (
	priorityClassShift = 13
	priorityLevelMask  = 7

	priorityClassRealTime   = 1
	priorityClassBestEffort = 2
	priorityClassIdle       = 3
)

// priority writes an I/O priority, "" without a class.
func (c *blockNameCache) priority(p uint16) string {
	class := p >> priorityClassShift
	if class == 0 {
		return ""
	}
	if s, ok := c.priorities[p]; ok {
		return s
	}
	level := "/" + strconv.Itoa(int(p&priorityLevelMask))
	var s string
	switch class {
	case priorityClassRealTime:
		s = "rt" + level
	case priorityClassBestEffort:
		s = "be" + level
	case priorityClassIdle:
		s = "idle"
	default:
		s = "class " + strconv.Itoa(int(class)) + level
	}
	return remember(c.priorities, p, s)
}

// failure describes the status of a request that failed.
func (c *blockNameCache) failure(b *event.Block) blockFailure {
	k := blockFailureKey{b.Status, b.Flags&event.BlockErrno != 0}
	if f, ok := c.failures[k]; ok {
		return f
	}
	s := statusOfBlock(k.status, k.errno, c.oldStatus)
	return remember(c.failures, k, blockFailure{s, "failed: " + s.name + " (" + s.text + " error)"})
}
