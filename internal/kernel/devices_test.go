package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sysfs is a directory with block devices as sysfs shows them.
type sysfs struct {
	t    *testing.T
	root string
}

func newSysfs(t *testing.T) sysfs { return sysfs{t, t.TempDir()} }

// disks adds a disk with a partition, an NVMe disk, a stacked device, and one
// whose name has a slash.
func (s sysfs) disks() sysfs {
	s.add("8:0", "pci0/sda")
	s.add("8:1", "pci0/sda/sda1")
	writeFile(s.t, s.root+"/sys/devices/pci0/sda/sda1/partition", "1\n")
	s.add("259:0", "pci0/nvme0/nvme0n1")
	s.add("253:0", "virtual/block/dm-0")
	s.add("104:0", "pci1/cciss!c0d0")
	return s
}

func (s sysfs) add(number, path string) {
	s.t.Helper()
	writeFile(s.t, filepath.Join(s.root, "sys", "devices", path, "dev"), number+"\n")
	makeLink(s.t, "../../devices/"+path, s.root+"/sys/dev/block/"+number)
	makeLink(s.t, "../../devices/"+path, s.root+"/sys/class/block/"+filepath.Base(path))
}

func (s sysfs) remove(number string) {
	s.t.Helper()
	if err := os.Remove(s.root + "/sys/dev/block/" + number); err != nil {
		s.t.Fatal(err)
	}
}

func TestDeviceNames(t *testing.T) {
	s := newSysfs(t).disks()
	now := time.Unix(1000, 0)
	d := newDevices(s.root, func() time.Time { return now })
	check := func(number, want string) {
		t.Helper()
		dev, ok := parseDevice(number)
		if got := d.Name(dev); !ok || got != want {
			t.Errorf("Name(%s) = %q, want %q", number, got, want)
		}
	}
	s.remove("8:0")
	check("8:0", "sda") // known from the start
	check("8:1", "sda1")
	check("259:0", "nvme0n1")
	check("253:0", "dm-0")
	check("104:0", "cciss/c0d0")
	check("7:5", "")

	s.add("7:5", "virtual/block/loop5")
	check("7:5", "") // looked less than a second ago
	now = now.Add(deviceRefresh)
	check("7:5", "loop5")
	check("8:0", "sda") // gone, but its requests may still come
	s.add("8:0", "pci2/sdb")
	check("8:0", "sda")
	now = now.Add(deviceRefresh)
	check("8:0", "sdb") // the number is another device's now
}

func TestDeviceNamesWithoutSysfs(t *testing.T) {
	if name := newDevices(t.TempDir(), time.Now).Name(8 << deviceMinorBits); name != "" {
		t.Errorf("a machine without sysfs names %q", name)
	}
}

// TestDevicesHere runs the real thing: what sysfs lists has a name, and the
// name leads to the same number.
func TestDevicesHere(t *testing.T) {
	entries, err := os.ReadDir("/sys/dev/block")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	devices := NewDevices()
	for _, e := range entries {
		dev, ok := parseDevice(e.Name())
		name := devices.Name(dev)
		if !ok || name == "" {
			t.Errorf("%s has no name", e.Name())
		}
		if got, _, err := ResolveDevice(name); err != nil || got != dev {
			t.Errorf("ResolveDevice(%q) = %s, %v; want %s", name, formatDevice(got), err, e.Name())
		}
	}
}

func TestDeviceNameAllocatesNothing(t *testing.T) {
	s := newSysfs(t).disks()
	d := newDevices(s.root, func() time.Time { return time.Unix(1000, 0) })
	if n := testing.AllocsPerRun(100, func() { d.Name(8 << deviceMinorBits) }); n != 0 {
		t.Errorf("a known name takes %v allocations", n)
	}
}

func TestParseDevice(t *testing.T) {
	for text, want := range map[string]uint32{"0:0": 0, "8:1": 8<<20 | 1, "259:1048575": 259<<20 | 1048575, "4095:0": 4095 << 20} {
		if got, ok := parseDevice(text); !ok || got != want || formatDevice(got) != text {
			t.Errorf("parseDevice(%q) = %#x, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "8", ":", "8:", ":0", "8:0:1", "-8:0", "8:-1", "4096:0", "8:1048576", "8: 0", "a:b", "0x8:0"} {
		if got, ok := parseDevice(text); ok {
			t.Errorf("parseDevice(%q) = %#x", text, got)
		}
	}
}

func TestResolveDevice(t *testing.T) {
	s := newSysfs(t).disks()
	writeFile(t, s.root+"/sys/class/block/sdz/dev", "") // a multipath device's hidden one has no number
	writeFile(t, s.root+"/sys/class/block/nvme3", "")   // never so in sysfs
	s.add("8:33", "pci3/sdc/sdc1")                      // a partition of a disk
	writeFile(t, s.root+"/sys/devices/pci3/sdc/sdc1/partition", "1\n")
	writeFile(t, s.root+"/sys/devices/pci3/sdc/dev", "none\n") // that is damaged
	nodes := map[string]uint32{"/dev/sda1": 8<<20 | 1, "/dev/mapper/data": 253 << 20, "/dev/sda": 8 << 20}
	f := deviceFinder{root: s.root, node: func(path string) (uint32, error) {
		path = strings.TrimPrefix(path, s.root)
		if dev, ok := nodes[path]; ok {
			return dev, nil
		}
		if path == "/dev/null" {
			return 0, errNoBlockDevice
		}
		return 0, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}}
	type found struct {
		Dev, Whole string
		Err        string
	}
	tests := map[string]found{
		"sda":              {"8:0", "8:0", ""},
		"sda1":             {"8:1", "8:0", ""},
		"8:1":              {"8:1", "8:0", ""},
		"nvme0n1":          {"259:0", "259:0", ""},
		"dm-0":             {"253:0", "253:0", ""},
		"cciss/c0d0":       {"104:0", "104:0", ""},
		"/dev/sda":         {"8:0", "8:0", ""},
		"/dev/sda1":        {"8:1", "8:0", ""},
		"/dev/mapper/data": {"253:0", "253:0", ""},
		"mapper/data":      {"253:0", "253:0", ""},
		"xyz":              {Err: `find block device "xyz": there is none of that name; see lsblk`},
		"":                 {Err: `find block device "": there is none of that name; see lsblk`},
		"nvme9":            {Err: `find block device "nvme9": there is none of that name, near are nvme0n1, nvme3; see lsblk`},
		"nvme3":            {Err: `find block device "nvme3": there is none of that name, near are nvme0n1, nvme3; see lsblk`},
		"/dev/sdq":         {Err: `find block device "/dev/sdq": there is none of that name, near are sda, sda1, sdc1, sdz; see lsblk`},
		"/dev/null":        {Err: `find block device "/dev/null": it is no block device; see lsblk`},
		"9:9":              {Err: `find block device "9:9": there is none of that number; see lsblk`},
		"9999:9":           {Err: `find block device "9999:9": there is none of that name; see lsblk`},
		"sdc1":             {Err: `find the disk of partition "sdc1": sysfs calls it "none\n"`},
	}
	for arg, want := range tests {
		dev, whole, err := f.resolve(arg)
		got := found{Dev: formatDevice(dev), Whole: formatDevice(whole)}
		if err != nil {
			got = found{Err: err.Error()}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", arg, diff)
		}
	}
}

func TestNodeDevice(t *testing.T) {
	if _, err := nodeDevice("/dev/null"); !errors.Is(err, errNoBlockDevice) {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := nodeDevice(t.TempDir() + "/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
