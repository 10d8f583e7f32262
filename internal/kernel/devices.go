package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// deviceRefresh is the least time between two looks at one device: numbers of
// devices that were removed are given to others.
const deviceRefresh = time.Second

// A dev_t as the kernel itself holds it has 12 bits of major and 20 of minor.
const (
	deviceMinorBits = 20
	deviceMaxMajor  = 1<<12 - 1
	deviceMaxMinor  = 1<<deviceMinorBits - 1
)

// nearDevices is how many names an error about an unknown one proposes.
const nearDevices = 5

// Devices names block devices by their dev_t (major << 20 | minor), partitions
// included, as sysfs and lsblk do: sda, sda1, nvme0n1, dm-0. Methods may be
// called concurrently.
type Devices struct {
	root string // what stands before /sys
	now  func() time.Time

	mu    sync.Mutex
	names map[uint32]deviceName
}

type deviceName struct {
	name string
	next time.Time // when it may be looked at again
}

// NewDevices knows the names of the devices that there are now, so that one
// which is removed later keeps its name.
func NewDevices() *Devices { return newDevices("/", time.Now) }

func newDevices(root string, now func() time.Time) *Devices {
	d := &Devices{root: root, now: now, names: make(map[uint32]deviceName)}
	entries, err := os.ReadDir(filepath.Join(root, "sys", "dev", "block"))
	if err != nil {
		return d // no sysfs: nothing has a name
	}
	for _, e := range entries {
		if dev, ok := parseDevice(e.Name()); ok {
			d.Name(dev)
		}
	}
	return d
}

// Name returns the name of a device, of one that is gone the last that it had,
// empty when it never was seen. It looks at most once a second whether the
// number belongs to another device by now.
func (d *Devices) Name(dev uint32) string {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.names[dev]
	if now.Before(known.next) {
		return known.name
	}
	known.next = now.Add(deviceRefresh)
	if link, err := os.Readlink(sysDevice(d.root, dev)); err == nil {
		known.name = deviceNameOf(filepath.Base(link))
	}
	d.names[dev] = known
	return known.name
}

// deviceNameOf undoes what sysfs does to the slashes of a name (cciss/c0d0).
func deviceNameOf(sysName string) string { return strings.ReplaceAll(sysName, "!", "/") }

func sysNameOf(device string) string { return strings.ReplaceAll(device, "/", "!") }

func sysDevice(root string, dev uint32) string {
	return filepath.Join(root, "sys", "dev", "block", formatDevice(dev))
}

// formatDevice gives the form MAJ:MIN.
func formatDevice(dev uint32) string {
	return fmt.Sprintf("%d:%d", dev>>deviceMinorBits, dev&deviceMaxMinor)
}

// parseDevice reads the form MAJ:MIN.
func parseDevice(text string) (dev uint32, ok bool) {
	left, right, found := strings.Cut(text, ":")
	major, majorErr := strconv.ParseUint(left, 10, 32)
	minor, minorErr := strconv.ParseUint(right, 10, 32)
	if !found || majorErr != nil || minorErr != nil || major > deviceMaxMajor || minor > deviceMaxMinor {
		return 0, false
	}
	return uint32(major)<<deviceMinorBits | uint32(minor), true
}

// ResolveDevice finds a block device by its name (nvme0n1, sda1, dm-0), a path
// to its node (/dev/sda, /dev/mapper/x) or its number (8:0). dev is its dev_t,
// major << 20 | minor; whole is the same, or for a partition that of its disk.
// The error is one sentence that says where to look.
func ResolveDevice(arg string) (dev, whole uint32, err error) {
	return deviceFinder{root: "/", node: nodeDevice}.resolve(arg)
}

// deviceFinder finds devices; tests give it other ones.
type deviceFinder struct {
	root string                            // what stands before /sys and /dev
	node func(path string) (uint32, error) // the dev_t of a block device's node
}

// errNoBlockDevice says that a path leads to something else.
var errNoBlockDevice = errors.New("it is no block device")

func (f deviceFinder) resolve(arg string) (dev, whole uint32, err error) {
	if dev, err = f.number(arg); err != nil {
		return 0, 0, fmt.Errorf("find block device %q: %w; see lsblk", arg, err)
	}
	if whole, err = f.wholeOf(dev); err != nil {
		return 0, 0, fmt.Errorf("find the disk of partition %q: %w", arg, err)
	}
	return dev, whole, nil
}

func (f deviceFinder) number(arg string) (uint32, error) {
	if dev, ok := parseDevice(arg); ok {
		if _, err := os.Stat(sysDevice(f.root, dev)); err != nil {
			return 0, errors.New("there is none of that number")
		}
		return dev, nil
	}
	if filepath.IsAbs(arg) {
		dev, err := f.node(filepath.Join(f.root, arg))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, f.unknown(filepath.Base(arg))
		}
		return dev, err
	}
	text, err := os.ReadFile(filepath.Join(f.root, "sys", "class", "block", sysNameOf(arg), "dev"))
	if dev, ok := parseDevice(strings.TrimSpace(string(text))); err == nil && ok {
		return dev, nil
	}
	// Names below /dev that sysfs does not know: mapper/x, disk/by-id/x.
	if dev, err := f.node(filepath.Join(f.root, "dev", arg)); err == nil {
		return dev, nil
	}
	return 0, f.unknown(arg)
}

// wholeOf gives the disk of a partition, and any other device itself.
func (f deviceFinder) wholeOf(dev uint32) (uint32, error) {
	dir, err := filepath.EvalSymlinks(sysDevice(f.root, dev))
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return dev, nil
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if err != nil {
		return 0, err
	}
	whole, ok := parseDevice(strings.TrimSpace(string(text)))
	if !ok {
		return 0, fmt.Errorf("sysfs calls it %q", text)
	}
	return whole, nil
}

// unknown says that there is no such name, and which begin alike.
func (f deviceFinder) unknown(name string) error {
	var near []string
	entries, err := os.ReadDir(filepath.Join(f.root, "sys", "class", "block"))
	if err != nil {
		entries = nil // nothing to propose
	}
	for _, e := range entries {
		known := deviceNameOf(e.Name())
		if alike := min(2, len(name)); alike > 0 && strings.HasPrefix(known, name[:alike]) && len(near) < nearDevices {
			near = append(near, known)
		}
	}
	if len(near) == 0 {
		return errors.New("there is none of that name")
	}
	return fmt.Errorf("there is none of that name, near are %s", strings.Join(near, ", "))
}

// nodeDevice gives the dev_t of the block device that a path leads to.
func nodeDevice(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, errNoBlockDevice
	}
	return unix.Major(st.Rdev)<<deviceMinorBits | unix.Minor(st.Rdev), nil
}
