package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// someMeasurements have another number in each place.
func someMeasurements() measurements {
	return measurements{
		sections: map[string]export.Summary{
			sectionPackets: {
				Attached: 1, Frames: 2, Traces: 3, PassedOver: 4, Unsampled: 39, KernelLost: map[string]uint64{"left_out": 5, "ring_full_frames": 0},
				Tracker:       export.TrackerSummary{Open: 6, Evicted: 7, Late: 8, LeftOut: 9, Unfinished: 10, LostFrames: 11, LostStarts: 12, LostEnds: 13},
				FunctionsShed: 33, FramesShed: 34, CPUExceeded: 35, LossExceeded: 36,
			},
			sectionBlock: {
				Block: true, Attached: 14, Requests: 15, Traces: 16, HistogramSendsFailed: 17,
				BlockTracker: export.BlockTrackerSummary{Open: 18, Unfinished: 19, Evicted: 20, Orphans: 21, Stranded: 22},
				CPUExceeded:  37, LossExceeded: 38,
			},
		},
		exporters: []exporterMeasurement{
			{exporterOTLP, export.Stats{Exported: 100, Dropped: 23, Rejected: 24, Failed: 25, Unsent: 26}, &export.Queue{Waiting: 27, Capacity: 28, Flying: 29}},
			{exporterFile, export.Stats{Exported: 200}, &export.Queue{Waiting: 30}},
			{exporterConsole, export.Stats{Exported: 300}, nil},
		},
		reloads: 31, reloadsFailed: 32,
	}
}

// Each number arrives under its name, with what it is of.
func TestOwnMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	defer func() { _ = provider.Shutdown(context.Background()) }() // nothing is sent
	if err := registerMetrics(provider.Meter("test"), someMeasurements); err != nil {
		t.Fatal(err)
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range data.ScopeMetrics[0].Metrics {
		sum, ok := m.Data.(metricdata.Sum[int64])
		if !ok {
			t.Fatalf("%s is %T", m.Name, m.Data)
		}
		for _, p := range sum.DataPoints {
			line := fmt.Sprintf("%s %s %v", m.Name, m.Unit, sum.IsMonotonic)
			for _, kv := range p.Attributes.ToSlice() {
				line += fmt.Sprintf(" %s=%s", kv.Key, kv.Value.AsString())
			}
			lines = append(lines, fmt.Sprintf("%s: %d", line, p.Value))
		}
	}
	slices.Sort(lines)
	golden(t, "own-metrics.golden", strings.Join(lines, "\n")+"\n")
}

// A receiver that takes no metrics is asked once; a send that fails is counted,
// and said once for each reason.
func TestMetricsSender(t *testing.T) {
	var log bytes.Buffer
	c := startMetricsCollector(t, false, nil)
	client, err := newMetricsClient(t.Context(), latencyMetricsOptions{endpoint: "http://" + c.address, getenv: lookup(nil), logger: newLogger(&log)})
	if err != nil {
		t.Fatal(err)
	}
	sender := &metricsSender{Exporter: client.exporter, logger: newLogger(&log)}
	for range 3 {
		if err := sender.Export(t.Context(), &metricdata.ResourceMetrics{}); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Count(log.String(), "takes no metrics"); got != 1 || sender.failures() != 0 {
		t.Errorf("said %d times, %d failures:\n%s", got, sender.failures(), &log)
	}
	if err := client.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	sender = &metricsSender{Exporter: client.exporter, logger: newLogger(&log)} // of a connection that is closed
	for range 3 {
		if err := sender.Export(t.Context(), &metricdata.ResourceMetrics{}); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Count(log.String(), "cannot send metrics"); got != 1 || sender.failures() != 3 {
		t.Errorf("said %d times, %d failures:\n%s", got, sender.failures(), &log)
	}
}

// A service sends its metrics when it ends, with the histograms' connection, and
// answers those who ask while it runs.
func TestServiceTells(t *testing.T) {
	c := startMetricsCollector(t, true, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(ctx, t, "health: {listen: '127.0.0.1:0'}")
	// The rig exports to a file: metrics need an endpoint.
	client, err := newMetricsClient(ctx, latencyMetricsOptions{endpoint: "http://" + c.address, getenv: lookup(nil), logger: r.logger})
	if err != nil {
		t.Fatal(err)
	}
	r.metrics.client = client
	sender := &metricsSender{Exporter: client.exporter, logger: r.logger}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(sender)))
	if err := registerMetrics(provider.Meter("test"), r.measured); err != nil {
		t.Fatal(err)
	}
	r.metrics.sender = sender
	await(t, r.log, "listening for /healthz")
	for r.packets.part.live.Load() == nil || r.block.part.live.Load() == nil {
		time.Sleep(time.Millisecond) // the test's time-out ends it
	}
	server := r.listener.server.Handler
	for path, want := range map[string]string{
		"/healthz": `{"ok":true,"sections":{"block":"tracing","packets":"tracing"}}`,
		"/metrics": `otel_kprobe_kernel_lost_total{otel_kprobe_reason="left_out",otel_kprobe_section="packets"`,
	} {
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		body, _ := io.ReadAll(answer.Body)
		if answer.Code != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, want %s", path, answer.Code, body, want)
		}
	}
	if err := provider.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	r.wait(ctx, nil)
	if err := r.finish(); err != nil {
		t.Error(err)
	}
	if len(c.taken) == 0 {
		t.Error("no metrics arrived")
	}
}

func TestHealthAnswers(t *testing.T) {
	for _, c := range []struct {
		state health
		want  int
	}{
		{health{OK: true, Sections: map[string]string{"block": "tracing"}}, http.StatusOK},
		{health{Sections: map[string]string{"block": "not yet"}}, http.StatusServiceUnavailable},
	} {
		answer := httptest.NewRecorder()
		answerHealth(answer, c.state)
		var got health
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.state, got); diff != "" || answer.Code != c.want {
			t.Errorf("status %d, want %d; %s", answer.Code, c.want, diff)
		}
	}
}

// Two pipelines with one shift after the other show each packet of a recording
// once, whichever moment lies between, and count the rest.
func TestShifts(t *testing.T) {
	whole, _, _ := captureOf(t, 0)
	if err := whole.drain(); err != nil {
		t.Fatal(err)
	}
	whole.closeAll()
	records, _, _ := recordsOf(t, recordPing)
	divided := 0
	for i := 0; i < len(records); i += 10 {
		var ev event.Event
		if err := bpf.Decode(records[i], &ev); err != nil {
			t.Fatal(err)
		}
		_, until, ok := ev.Journey()
		if !ok {
			continue
		}
		var traces, frames uint64
		for _, s := range []shift{{untilMonoNs: until}, {fromMonoNs: until}} {
			c, _, _ := captureOf(t, 0)
			c.pipeline.shift = s
			if err := c.drain(); err != nil {
				t.Fatal(err)
			}
			c.closeAll()
			sum := c.pipeline.summary()
			traces, frames = traces+sum.Traces, frames+sum.Spans-sum.Traces-sum.Waits
			if sum.Traces > 0 && sum.HandedOver > 0 {
				divided++
			}
			if sum.Frames != sum.Spans-sum.Traces-sum.Waits+sum.FramesHandedOver {
				t.Errorf("shift %+v: %+v", s, sum)
			}
		}
		if traces != whole.pipeline.traces || frames != whole.pipeline.frames {
			t.Errorf("until %d: %d traces and %d frames, want %d and %d", until, traces, frames, whole.pipeline.traces, whole.pipeline.frames)
		}
	}
	if divided == 0 {
		t.Error("no moment divides the recording")
	}
}

// Connections are left out in the tables of all the programs that are loaded.
func TestOwnTrafficInTwoTables(t *testing.T) {
	var log bytes.Buffer
	o, first, _ := ownOf(&log)
	second := &fakeTable{flows: map[flow]bool{}}
	o.excludeIn(first)
	l := listen(t, "tcp", "127.0.0.1:0")
	conn, err := o.dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	o.excludeIn(second) // after a change of the filter
	o.forget(first)
	o.exclude(flow{})
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if len(first.flows) != 1 || len(second.flows) != 2 || log.Len() > 0 {
		t.Errorf("%v, %v; %s", first.flows, second.flows, &log)
	}
}

// A file of one section alone, that cannot be listened for.
func TestServiceDoesNotListen(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	old := write(t, "spans.jsonl", []byte("kept\n"))
	path := write(t, "c.yaml", []byte("health: {listen: '"+l.Addr().String()+"'}\nexport: {exporters: [file], file: "+old+"}\n"))
	got := command(t, "run", "--config", path)
	if got.Status != exitUsage || !strings.HasPrefix(got.Stderr, "otel-kprobe: listen as health.listen says: ") {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != "kept\n" {
		t.Errorf("the file holds %q: %v", text, err)
	}
}
