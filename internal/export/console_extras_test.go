package export

import (
	"bytes"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// extrasJourney is dropJourney with everything that can be asked for besides.
func extrasJourney(k *testKernel) *journey.Journey {
	j := dropJourney(k)
	for i := range j.Frames {
		f := &j.Frames[i]
		j.Stacks = append(j.Stacks, journey.Stack{
			Skb: f.Skb, AtMonoNs: f.EnterMonoNs, Ordinal: f.Ordinal, Kind: event.StackCaller, From: uint32(i), Depth: 1,
		})
		j.Addresses = append(j.Addresses, 0xffffffff81aa0000)
		values := event.Fields{Skb: f.Skb, AtMonoNs: f.EnterMonoNs, Ordinal: f.Ordinal, Valid: 3, Bytes: 9}
		values.Data[0], values.Data[8] = byte(i+1), 5
		j.Fields = append(j.Fields, values)
	}
	bytes := event.Fields{Skb: j.Frames[0].Skb, AtMonoNs: packetStartNs, Flags: event.FieldsPayload, Bytes: 4}
	copy(bytes.Data[:], "\x60\x00\x00\x01")
	j.Fields = append(j.Fields, bytes)
	j.Stacks = append(j.Stacks, journey.Stack{
		Skb: j.Frames[0].Skb, AtMonoNs: j.Ends[0].AtMonoNs, Kind: event.StackDrop, From: uint32(len(j.Addresses)), Depth: 2,
	})
	j.Addresses = append(j.Addresses, 0xffffffff81ab0000, 0xffffffff81aa0000)
	return j
}

func TestConsoleOfExtras(t *testing.T) {
	for name, o := range map[string]ConsoleOptions{
		"extras_tree":  {},
		"extras_lines": {Format: FormatLines},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTestKernel()
			b := spans.NewBuilder(spans.Options{Names: k, Clock: k, SkbFields: []event.SkbField{
				{Name: "skb->hash", Bytes: 4, Kind: event.FieldUnsigned}, {Name: "skb->dev->ifindex", At: 8, Bytes: 1, Kind: event.FieldSigned},
			}})
			var out bytes.Buffer
			c := NewConsole(&out, o)
			c.Export(b.Build(extrasJourney(k)))
			golden(t, name, out.String())
		})
	}
}
