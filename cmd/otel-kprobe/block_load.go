package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf/rlimit"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

// attachedBlock is a block layer that reports to us.
type attachedBlock struct {
	objects    *bpf.BlockObjects
	attachment *probe.BlockAttachment
	names      kernel.BlockNames
	// inKernel says that the kernel counts the latencies, and not we.
	inKernel bool
	took     time.Duration // from the start to now
}

// attachBlock loads the programs and attaches them. On error nothing stays
// behind.
func attachBlock(s blockSettings, logger *slog.Logger) (*attachedBlock, error) {
	start := time.Now()
	vmlinux, btfErr := kernel.ReadBTF(kernel.BTFDir, "vmlinux", nil)
	names := kernel.BlockNames{}
	var operations uint64
	if btfErr == nil {
		names = kernel.ReadBlockNames(vmlinux)
		var err error
		if operations, err = s.operationBits(names); err != nil {
			return nil, err
		}
	}
	findings := kernel.Check()
	if err := kernel.CannotTraceBlock(findings); err != nil {
		return nil, err
	}
	if btfErr != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w", btfErr)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	options := blockLoadOptions(s, kernel.ReadBlockSignatures(vmlinux))
	options.Operations, options.LoopMulti = operations, kernel.HasMultiOfModules(findings)
	if options.Records {
		options.Correlate = s.output.correlate != correlateOff
		options.Contexts = openContexts(s.output.correlate, logger)
		defer func() { _ = options.Contexts.Close() }() // the programs keep it
	}
	if options.Correlate {
		options.Programs = append(options.Programs, bpf.ProgramApplicationStatement)
	}
	objects, err := bpf.LoadBlock(options)
	if err != nil {
		return nil, explainRefusal(err)
	}
	attachment, err := probe.AttachBlock(objects)
	if err != nil {
		_ = objects.Close() // err tells what went wrong first
		return nil, explainRefusal(err)
	}
	if why := attachment.LoopMissing; why != nil {
		logger.Info("requests below loop devices are shown apart: the loop driver is not probed", "why", why)
	}
	return &attachedBlock{
		objects:    objects,
		attachment: attachment,
		names:      names,
		inKernel:   options.Histogram,
		took:       time.Since(start),
	}, nil
}

// blockLoadOptions says what the kernel side is to do.
func blockLoadOptions(s blockSettings, signatures kernel.BlockSignatures) bpf.BlockOptions {
	records := !s.histogramOnly
	bios := records || s.by == blockio.ByCgroup || s.by == blockio.ByProcess ||
		s.pid != 0 || s.cgroupID != 0 || haveBioDevices("/sys/block")
	old := bpf.NewBlockObject() != nil
	return bpf.BlockOptions{
		Programs: probe.BlockPrograms(signatures, probe.BlockNeeds{Bios: bios, Loop: haveLoop(), OldKernel: old}),
		Records:  records,
		// What is not exported can be counted in the kernel only.
		Histogram:    s.histogramOnly || s.minLatency > 0 || s.sample > 0,
		By:           uint8(s.by),
		Bios:         bios,
		OldKernel:    old,
		StatusErrno:  signatures.Tracepoints[kernel.TracepointRequestComplete].StatusErrno,
		Arguments:    probe.BlockArguments(signatures),
		Devices:      s.devices,
		TGID:         s.pid,
		CgroupID:     s.cgroupID,
		CgroupLevel:  s.cgroupLevel,
		MinLatencyNs: uint64(s.minLatency),

		SampleThreshold: s.sample,

		OwnTGID:   uint32(os.Getpid()),
		RingBytes: s.run.ringBytes,
	}
}

// haveLoop is true when the loop driver is loaded.
func haveLoop() bool {
	_, err := os.Stat("/sys/module/loop")
	return err == nil
}

// haveBioDevices is true when there is a device without requests (dm, md, zram):
// its I/O shows in bios only. Devices with requests have a directory mq.
func haveBioDevices(dir string) bool {
	devices, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return true
	}
	for _, device := range devices {
		if _, err := os.Stat(filepath.Join(device, "mq")); err != nil {
			return true
		}
	}
	return false
}
