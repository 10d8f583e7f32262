package main

import (
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// liveBlockNames names what the running kernel's block layer reports.
type liveBlockNames struct {
	kernel.BlockNames
	devices *kernel.Devices
	cgroups *kernel.Cgroups
}

var _ spans.BlockNames = (*liveBlockNames)(nil)

func newLiveBlockNames(names kernel.BlockNames) *liveBlockNames {
	return &liveBlockNames{names, kernel.NewDevices(), kernel.NewCgroups()}
}

// Device implements spans.BlockNames.
func (n *liveBlockNames) Device(dev uint32) string { return n.devices.Name(dev) }

// Cgroup implements spans.BlockNames.
func (n *liveBlockNames) Cgroup(id uint64) string { return n.cgroups.Path(id) }

// recordedBlockNames wraps names so that the recording holds each answer.
func recordedBlockNames(names spans.BlockNames, recorder *recording.Writer) spans.BlockNames {
	if recorder == nil {
		return names
	}
	return recording.RecordedBlockNames{Names: names, Writer: recorder}
}

// statusBefore610 is true for a kernel that numbers its blk_status_t as before
// Linux 6.10, by its release ("6.1.0-50-cloud-amd64").
func statusBefore610(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		rest = rest[:digits]
	}
	version, err := strconv.Atoi(major)
	patch, err2 := strconv.Atoi(rest)
	return err == nil && err2 == nil && (version < 6 || version == 6 && patch < 10)
}
