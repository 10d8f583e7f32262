package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

// recordPing is a recording of two pings by way of a virtio NIC, made on Linux
// 6.12 by `packets --record`: two requests and two replies.
const recordPing = "testdata/ping.okrec"

const (
	pingTraces = 4
	pingSpans  = 139
)

// makeRecording gives a recording of journeys with so many frames each, one in
// the other. Records have the layout of bpf/records.h.
func makeRecording(t *testing.T, journeys, frames int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, recording.Header{
		KernelRelease: "6.12.0", Architecture: "amd64", HostName: "host", StartMonoNs: 1,
		ClockOffsetNs: 1_795_000_000_000_000_000, Seed: [16]byte{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	put := func(raw []byte) {
		if err := w.Record(raw); err != nil {
			t.Fatal(err)
		}
	}
	now := uint64(1000)
	for journey := 1; journey <= journeys; journey++ {
		start := now
		put(factsRecord(uint64(journey), start))
		for i := range frames {
			exit := start + uint64(2*frames-i)
			put(frameRecord(uint64(journey), start+uint64(i), exit, uint32(i+1)))
		}
		now = start + uint64(3*frames)
		put(endRecord(uint64(journey), now, uint32(frames)))
	}
	if err := w.CloseAll(now); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func factsRecord(journey, atMonoNs uint64) []byte {
	raw := make([]byte, 152)
	raw[0], raw[1] = byte(event.KindFacts), byte(event.FactsStart)
	for at, value := range map[int]uint64{8: journey, 16: 0xffff_8880_0000_0000 + journey, 24: atMonoNs} {
		binary.LittleEndian.PutUint64(raw[at:], value)
	}
	binary.LittleEndian.PutUint32(raw[32:], 1)
	return raw
}

func frameRecord(journey, enterMonoNs, exitMonoNs uint64, ordinal uint32) []byte {
	raw := make([]byte, 80)
	raw[0] = byte(event.KindFrame)
	for at, value := range map[int]uint64{8: journey, 16: 0xffff_8880_0000_0000 + journey, 24: 0xffff_ffff_8100_0000, 32: 1, 40: enterMonoNs, 48: exitMonoNs} {
		binary.LittleEndian.PutUint64(raw[at:], value)
	}
	binary.LittleEndian.PutUint32(raw[76:], ordinal)
	return raw
}

func endRecord(journey, atMonoNs uint64, entered uint32) []byte {
	raw := make([]byte, 48)
	raw[0], raw[1] = byte(event.KindEnd), byte(event.EndConsumed)
	for at, value := range map[int]uint64{8: journey, 16: 0xffff_8880_0000_0000 + journey, 24: atMonoNs} {
		binary.LittleEndian.PutUint64(raw[at:], value)
	}
	binary.LittleEndian.PutUint32(raw[44:], entered)
	return raw
}
