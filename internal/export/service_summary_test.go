package export

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill sets every number below v, so that none can be forgotten.
func fill(v reflect.Value, value uint64) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), value)
		}
	case reflect.Uint64:
		v.SetUint(value)
	}
}

// Add sums each counter of packets. What is not a counter, or not of packets, is
// named here.
func TestSummaryAdd(t *testing.T) {
	var a, b, want Summary
	fill(reflect.ValueOf(&a).Elem(), 3)
	fill(reflect.ValueOf(&b).Elem(), 4)
	fill(reflect.ValueOf(&want).Elem(), 7)
	a.KernelLost, b.KernelLost = map[string]uint64{"x": 1, "y": 2}, map[string]uint64{"y": 3, "z": 4}
	want.KernelLost = map[string]uint64{"x": 1, "y": 5, "z": 4}
	a.Backend, b.Backend, want.Backend = "multi", "session", "session"
	want.Attached, want.Skipped = 4, 4 // of the programs that are attached now
	want.FunctionsShed = 4
	want.DurationNs = 3
	want.Requests, want.RequestsSubmitted, want.InFlight = 3, 3, 3
	want.BlockTracker, want.HistogramSendsFailed, want.HistogramsUnsent = a.BlockTracker, 3, 3
	kept := b.KernelLost
	a.Add(&b)
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"y": 3, "z": 4}, kept); diff != "" {
		t.Errorf("what was added has changed: %s", diff)
	}
}

func TestServiceSummary(t *testing.T) {
	packets := &Summary{Frames: 4, Traces: 1, Spans: 5}
	block := &Summary{Block: true, Requests: 2, Traces: 2, Spans: 4, KernelLost: map[string]uint64{"bios_full": 1}, HistogramsUnsent: 2}
	exporters := []ExporterSummary{{Name: "otlp", Spans: 9, Exported: 8, Dropped: 1}, {Name: "file", Spans: 9, Exported: 9}}
	for _, c := range []struct {
		name string
		s    ServiceSummary
		want string
	}{
		{"nothing", ServiceSummary{}, "exported nothing; nothing lost"},
		{
			"packets alone",
			ServiceSummary{Packets: packets, Exporters: exporters[1:]},
			"packets: 4 frames, 1 traces, 5 spans; nothing lost\nexported 9 to file; nothing lost",
		},
		{
			"functions shed",
			ServiceSummary{Packets: &Summary{Frames: 4, FunctionsShed: 2, FramesShed: 70}},
			"packets: 4 frames, 0 traces, 0 spans, 70 frames of shed functions not recorded; nothing lost\nexported nothing; nothing lost",
		},
		{
			"both",
			ServiceSummary{Packets: packets, Block: block, Exporters: exporters, Reloads: 3, ReloadsFailed: 1},
			"packets: 4 frames, 1 traces, 5 spans; nothing lost\n" +
				"block: 2 requests, 2 traces, 4 spans; lost: 1 (kernel bios_full), 2 (histograms unsent)\n" +
				"exported 8 to otlp, 9 to file; 3 reloads, 1 failed; lost: 1 (otlp dropped)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.s.String()); diff != "" {
				t.Error(diff)
			}
			var b bytes.Buffer
			if err := c.s.WriteJSON(&b); err != nil {
				t.Fatal(err)
			}
			var back map[string]any
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if (back["packets"] != nil) != (c.s.Packets != nil) || (back["block"] != nil) != (c.s.Block != nil) || back["exporters"] == nil {
				t.Errorf("%s", &b)
			}
		})
	}
	whole := (&ServiceSummary{Block: block, Exporters: exporters}).Whole()
	if whole.ExportLost() != 1 || whole.HistogramsUnsent != 2 {
		t.Errorf("whole %+v", whole)
	}
}
