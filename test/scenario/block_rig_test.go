//go:build vm

package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nodeWithin is how long a driver may take to make a disk: SCSI scans in the
// background.
const nodeWithin = 20 * time.Second

// blockModules are what a test kernel of Debian does not have built in.
// Compression for zram is asked for by zram itself.
var blockModules = []string{"null_blk", "sd_mod", "sg", "dm_mod", "raid0", "raid1", "loop", "zram"}

// block devices are made and removed for each test: whatever a test does to one
// is over when it ends. Numbers of null_blk start at 0 again with the module.

// loadBlockModules loads all drivers, and mq-deadline where it is a module.
func loadBlockModules(t *testing.T) {
	t.Helper()
	must(t, "modprobe", "-a", "configfs", "mq-deadline")
	must(t, "modprobe", "null_blk", "nr_devices=0")
	must(t, append([]string{"modprobe", "-a"}, blockModules[1:]...)...)
	if _, err := os.Stat("/sys/kernel/config/nullb"); err != nil {
		must(t, "mount", "-t", "configfs", "configfs", "/sys/kernel/config")
	}
}

// disk is a block device by its name in /dev and /sys/block.
type disk string

func (d disk) node() string { return "/dev/" + string(d) }

// sysfs is the path of one of the device's files.
func (d disk) sysfs(name ...string) string {
	return filepath.Join(append([]string{"/sys/block", string(d)}, name...)...)
}

// number is MAJ:MIN.
func (d disk) number(t *testing.T) string {
	t.Helper()
	return readText(t, "/sys/class/block/"+string(d)+"/dev")
}

func (d disk) scheduler(t *testing.T, name string) {
	t.Helper()
	write(t, d.sysfs("queue"), "scheduler", name)
	if got := readText(t, d.sysfs("queue", "scheduler")); !strings.Contains(got, "["+name+"]") {
		t.Fatalf("the scheduler of %s is %q, want %s", d, got, name)
	}
}

// scratch is the machine's second NVMe disk.
func scratch(t *testing.T) disk {
	t.Helper()
	node, err := filepath.EvalSymlinks("/dev/scratch")
	if err != nil {
		t.Fatal(err)
	}
	return disk(filepath.Base(node))
}

// await waits until a file is there, or is gone.
func await(t *testing.T, path string, there bool) {
	t.Helper()
	for deadline := time.Now().Add(nodeWithin); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); (err == nil) == there {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is there: %v, want %v", path, !there, there)
		}
	}
}

// nullDisk makes /dev/nullbN, of 64 MB in memory. Options are names and values
// of null_blk's configfs. The names of the directories are also those of the
// disks: older kernels number them as they come.
func nullDisk(t *testing.T, n int, options map[string]string) disk {
	t.Helper()
	d := disk("nullb" + strconv.Itoa(n))
	dir := nullDir(d)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "size", "64")
	write(t, dir, "memory_backed", "1")
	for name, value := range options {
		write(t, dir, name, value)
	}
	write(t, dir, "power", "1")
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
		await(t, d.sysfs(), false)
	})
	await(t, d.node(), true)
	return d
}

// nullDir is where a null_blk disk is configured.
func nullDir(d disk) string { return "/sys/kernel/config/nullb/" + string(d) }

// powerOff removes a null_blk disk while it is in use.
func powerOff(t *testing.T, d disk) {
	t.Helper()
	write(t, nullDir(d), "power", "0")
}

// The bad sectors of scsi_debug, once setMediumErrors(true).
const (
	mediumErrorStart = 0x1234
	mediumErrorCount = 10
)

// scsiDelayNs is how long scsi_debug takes for a command, by its own timer.
const scsiDelayNs = 100_000_000

// scsiDisk makes a disk of scsi_debug that takes one command at a time, and
// scsiDelayNs for each.
func scsiDisk(t *testing.T) disk {
	t.Helper()
	before, err := filepath.Glob("/sys/block/sd*")
	if err != nil || len(before) != 0 {
		t.Fatalf("there are SCSI disks already: %v %v", before, err)
	}
	must(t, "modprobe", "scsi_debug", "dev_size_mb=16", "delay=0", "ndelay="+strconv.Itoa(scsiDelayNs),
		"max_queue=1", "lbpu=1", "lbpws=1")
	t.Cleanup(func() { must(t, "modprobe", "-r", "scsi_debug") })
	await(t, "/dev/sda", true)
	return "sda"
}

const scsiDriver = "/sys/bus/pseudo/drivers/scsi_debug"

// setSCSIDelay changes scsiDelayNs for what follows. Commands under way keep
// theirs, and the driver refuses as long as there are any.
func setSCSIDelay(t *testing.T, ns int) {
	t.Helper()
	for deadline := time.Now().Add(nodeWithin); ; time.Sleep(50 * time.Millisecond) {
		err := os.WriteFile(filepath.Join(scsiDriver, "ndelay"), []byte(strconv.Itoa(ns)), 0)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func setMediumErrors(t *testing.T, on bool) {
	t.Helper()
	write(t, scsiDriver, "opts", map[bool]string{false: "0", true: "2"}[on])
}

// setHostBusy lets the host refuse every other command, which the block layer then
// gives it again.
func setHostBusy(t *testing.T, on bool) {
	t.Helper()
	write(t, scsiDriver, "every_nth", map[bool]string{false: "0", true: "2"}[on])
	write(t, scsiDriver, "opts", map[bool]string{false: "0", true: "0x8000"}[on])
}

// removeSCSI takes the disk away as a pulled cable does.
func removeSCSI(t *testing.T, d disk) {
	t.Helper()
	write(t, d.sysfs("device"), "delete", "1")
}

// makeFS makes an ext4 with blocks of 4096 bytes and mounts it.
func makeFS(t *testing.T, d disk, options ...string) string {
	t.Helper()
	must(t, append(append([]string{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"}, options...), d.node(), "64M")...)
	dir := t.TempDir()
	must(t, "mount", d.node(), dir)
	t.Cleanup(func() { _, _ = command("umount", dir) }) // a test may have done so
	return dir
}

// loopDisk makes a disk of a file, which is read and written directly.
func loopDisk(t *testing.T, file string) disk {
	t.Helper()
	node := strings.TrimSpace(must(t, "losetup", "--direct-io=on", "-f", "--show", file))
	d := disk(filepath.Base(node))
	t.Cleanup(func() { must(t, "losetup", "-d", node) })
	if got := readText(t, d.sysfs("loop", "dio")); got != "1" {
		t.Fatalf("%s does no direct I/O", d)
	}
	return d
}

// extent is a piece of a disk, in sectors.
type extent struct {
	disk          disk
	start, length uint64
}

// linearDisk puts extents one after the other (dm-linear). There is no udev:
// the only node is the kernel's.
func linearDisk(t *testing.T, name string, extents ...extent) disk {
	t.Helper()
	var table strings.Builder
	at := uint64(0)
	for _, e := range extents {
		fmt.Fprintf(&table, "%d %d linear %s %d\n", at, e.length, e.disk.node(), e.start)
		at += e.length
	}
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "dmsetup", "create", name, "--noudevsync", path)
	t.Cleanup(func() { must(t, "dmsetup", "remove", "--noudevsync", "--retry", name) })
	nodes, err := filepath.Glob("/sys/block/dm-*")
	if err != nil || len(nodes) == 0 {
		t.Fatalf("dmsetup made no device: %v", err)
	}
	d := disk(filepath.Base(nodes[len(nodes)-1]))
	await(t, d.node(), true)
	return d
}

// raidDisk builds an array without metadata: no superblock is ever written.
func raidDisk(t *testing.T, number, level int, parts ...disk) disk {
	t.Helper()
	d := disk("md" + strconv.Itoa(number))
	args := []string{"mdadm", "--build", d.node(), "--level=" + strconv.Itoa(level), "--raid-devices=" + strconv.Itoa(len(parts))}
	if level == 0 {
		args = append(args, "--chunk="+strconv.Itoa(raidChunk/1024))
	} else {
		args = append(args, "--assume-clean")
	}
	for _, p := range parts {
		args = append(args, p.node())
	}
	must(t, args...)
	t.Cleanup(func() { must(t, "mdadm", "--stop", d.node()) })
	await(t, d.node(), true)
	return d
}

// raidChunk is the bytes of a chunk of raid0.
const raidChunk = 65536

// zramDisk sets up the first disk of zram.
func zramDisk(t *testing.T) disk {
	t.Helper()
	const d = disk("zram0")
	write(t, d.sysfs(), "disksize", "16M")
	t.Cleanup(func() { write(t, d.sysfs(), "reset", "1") })
	return d
}
