package journey

import (
	"fmt"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// BenchmarkTracker tells what one event costs: journeys of one skb, its clone
// and 60 frames, as many of them interleaved as the name says.
func BenchmarkTracker(b *testing.B) {
	for _, interleaved := range []int{1, 8, 512} {
		b.Run(fmt.Sprintf("open=%d", interleaved), func(b *testing.B) {
			benchmarkTracker(b, interleaved)
		})
	}
}

func benchmarkTracker(b *testing.B, interleaved int) {
	var events []event.Event
	const frames = 60
	life := packetLife(frames)
	for i := range life {
		for id := range interleaved {
			events = append(events, of(uint64(id), life[i]))
		}
	}
	frameCount := 0
	t := NewTracker(Options{}, func(j *Journey) { frameCount += len(j.Frames) })
	round := func(base uint64) {
		for i := range events {
			ev := &events[i]
			id := base + ev.Frame.Journey
			ev.Facts.Journey, ev.Clone.Journey, ev.End.Journey = id, id, id
			ev.Frame.Journey = id
			t.Add(ev)
			ev.Frame.Journey = id - base
		}
	}
	base := uint64(0)
	for range 3*DefaultMaxJourneys/interleaved + 1 { // until the memory is there
		base += uint64(interleaved)
		round(base)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		base += uint64(interleaved)
		round(base)
	}
	b.StopTimer()
	perEvent := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(len(events))
	b.ReportMetric(perEvent, "ns/event")
	b.ReportMetric(0, "ns/op")
	if s := t.Stats(); s.Open != 0 || s.LateEvents != 0 {
		b.Fatalf("%+v", s)
	}
}

func packetLife(frames int) []event.Event {
	at := uint64(100)
	life := []event.Event{start(0xa, at), clone(0xb, 0xa, at+1)}
	for i := range frames {
		skb := uint64(0xa)
		if i >= frames/2 {
			skb = 0xb
		}
		life = append(life, frame(skb, at+uint64(i), at+uint64(i)+1))
	}
	return append(life, end(0xa, at+200, uint32(frames/2)), end(0xb, at+200, uint32(frames-frames/2)))
}
