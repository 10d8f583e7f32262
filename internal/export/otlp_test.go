package export

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// madeTrace is a trace of n spans whose names are as long as asked.
func madeTrace(id byte, n, nameLen int) *spans.Trace {
	t := &spans.Trace{ID: [16]byte{15: id}, Journey: uint64(id)}
	for i := range n {
		t.Spans = append(t.Spans, spans.Span{
			ID: [8]byte{6: byte(i >> 8), 7: byte(i + 1)}, Name: strings.Repeat("n", nameLen),
			StartUnixNs: 1, EndUnixNs: 2,
		})
	}
	return t
}

func testEnvelope() *spans.Envelope {
	return spans.NewEnvelope(
		spans.Resource{Attrs: []spans.ResourceAttr{{Key: "service.name", Type: spans.TypeString, Str: "test"}}},
		spans.Scope{Name: "scope"})
}

// receiver is an Upload that decodes what it gets.
type receiver struct {
	t  *testing.T
	mu sync.Mutex
	// before, if set, runs first and may refuse.
	before    func(ctx context.Context, n int) (int64, error)
	sizes     []int // spans per message
	largest   int   // bytes
	received  []*tracepb.Span
	together  int
	most      int            // uploads at a time
	byService map[string]int // spans, where it is not nil
}

func (r *receiver) upload(ctx context.Context, bodies [][]byte, n int) (int64, error) {
	r.mu.Lock()
	r.together++
	r.most = max(r.most, r.together)
	r.mu.Unlock()
	defer func() { r.mu.Lock(); r.together--; r.mu.Unlock() }()
	if r.before != nil {
		if rejected, err := r.before(ctx, n); rejected > 0 || err != nil {
			return rejected, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	spans, bytes := 0, 0
	for _, body := range bodies {
		rs := &tracepb.ResourceSpans{}
		if err := proto.Unmarshal(body, rs); err != nil {
			r.t.Errorf("decode message: %v", err)
		}
		got := rs.ScopeSpans[0].Spans
		service := rs.Resource.Attributes[0].Value.GetStringValue()
		if len(bodies) == 1 && service != "test" {
			r.t.Errorf("message has resource %v", rs.Resource)
		}
		if r.byService != nil {
			r.byService[service] += len(got)
		}
		r.received = append(r.received, got...)
		spans, bytes = spans+len(got), bytes+len(body)
	}
	if spans != n {
		r.t.Errorf("message has %d spans of %d", spans, n)
	}
	r.sizes = append(r.sizes, n)
	r.largest = max(r.largest, bytes)
	return 0, nil
}

func newTestOTLP(t *testing.T, r *receiver, change func(*OTLPOptions)) (*OTLP, *bytes.Buffer) {
	t.Helper()
	r.t = t
	logged := &bytes.Buffer{}
	o := OTLPOptions{
		Envelope: testEnvelope(), Upload: r.upload,
		Log: slog.New(slog.NewTextHandler(logged, nil)),
	}
	if change != nil {
		change(&o)
	}
	e, err := NewOTLP(o)
	if err != nil {
		t.Fatal(err)
	}
	return e, logged
}

// checkBooks checks that every span given is accounted for.
func checkBooks(t *testing.T, s Stats) {
	t.Helper()
	if s.Spans != s.Exported+s.Lost() {
		t.Errorf("%d spans given, %d exported, %d lost: %+v", s.Spans, s.Exported, s.Lost(), s)
	}
}

func TestOTLPSendsFullBatchesAtOnceAndOthersAfterTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		e, _ := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchSpans = 4 })
		e.Export(madeTrace(1, 10, 5))
		synctest.Wait()
		if s := e.Stats(); s.Exported != 8 {
			t.Errorf("%d spans sent at once, want the two full batches", s.Exported)
		}
		time.Sleep(DefaultFlushInterval + time.Millisecond)
		synctest.Wait()
		if s := e.Stats(); s.Exported != 10 || s.Batches != 3 {
			t.Errorf("after the interval: %+v", s)
		}
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		checkBooks(t, e.Stats())
	})
}

func TestOTLPKeepsMessagesBelowTheLimit(t *testing.T) {
	r := &receiver{}
	const limit = 2000
	e, _ := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchBytes, o.Wait, o.Uploads = limit, true, 1 })
	for id := range byte(20) {
		e.Export(madeTrace(id, 30, 200))
	}
	e.Export(madeTrace(99, 1, 3000)) // larger than any message
	e.Export(madeTrace(100, 1, 3))
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s := e.Stats()
	if r.largest > limit || s.Exported != 601 || s.Failed != 1 || len(r.received) != 601 {
		t.Errorf("largest %d, received %d, %+v", r.largest, len(r.received), s)
	}
	for i := range 600 {
		sp := r.received[i]
		if sp.TraceId[15] != byte(i/30) || sp.SpanId[7] != byte(i%30+1) {
			t.Fatalf("span %d is %x of trace %x", i, sp.SpanId, sp.TraceId)
		}
	}
	checkBooks(t, s)
}

// With a layered envelope each span arrives once, under its layer's resource, and
// messages stay below the limit with all their resources.
func TestOTLPLayers(t *testing.T) {
	r := &receiver{byService: map[string]int{}}
	const limit = 4000
	e, _ := newTestOTLP(t, r, func(o *OTLPOptions) {
		o.MaxBatchBytes, o.Wait, o.Uploads = limit, true, 1
		o.Envelope = spans.NewLayeredEnvelope(
			spans.Resource{Attrs: []spans.ResourceAttr{{Key: "service.name", Type: spans.TypeString, Str: "test"}}},
			spans.Scope{Name: "scope"})
	})
	for id := range byte(10) {
		tr := madeTrace(id, 30, 200)
		for i := range tr.Spans {
			tr.Spans[i].Stage = []spans.Stage{spans.StageIP, spans.StageTCP, spans.StageUnknown}[i%3]
		}
		e.Export(tr)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	want := map[string]int{"test": 10, "kernel ip": 90, "kernel tcp": 100, "kernel": 100}
	if diff := cmp.Diff(want, r.byService); diff != "" {
		t.Errorf("spans by service (-want +got):\n%s", diff)
	}
	if r.largest > limit || len(r.sizes) < 2 || e.Stats().Exported != 300 {
		t.Errorf("largest %d of %d messages, %+v", r.largest, len(r.sizes), e.Stats())
	}
	checkBooks(t, e.Stats())
}

func TestOTLPDropsBatchesWhenTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		r := &receiver{before: func(context.Context, int) (int64, error) { <-open; return 0, nil }}
		e, logged := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchSpans, o.MaxQueueSpans = 10, 50 })
		start := time.Now()
		for id := range byte(100) {
			e.Export(madeTrace(id, 10, 5))
			synctest.Wait()
		}
		if time.Since(start) != 0 {
			t.Error("Export waited for the receiver")
		}
		s := e.Stats()
		// Two batches are being uploaded and five wait.
		if s.Dropped != 930 {
			t.Errorf("%d spans dropped, want 930", s.Dropped)
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 {
			t.Errorf("%d lines logged, want 1:\n%s", n, logged)
		}
		close(open)
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if s = e.Stats(); s.Exported != 70 || r.most != DefaultUploads {
			t.Errorf("%d uploads at a time, %+v", r.most, s)
		}
		checkBooks(t, s)
	})
}

func TestOTLPQueueIsBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		r := &receiver{before: func(context.Context, int) (int64, error) { <-open; return 0, nil }}
		e, _ := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchSpans, o.MaxQueueBytes = 10, 30_000 })
		for id := range byte(50) {
			e.Export(madeTrace(id, 10, 1000))
			synctest.Wait()
		}
		if s := e.Stats(); s.Dropped != 460 { // two uploads, two in 30 kB
			t.Errorf("%d spans dropped, want 460", s.Dropped)
		}
		close(open)
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		checkBooks(t, e.Stats())
	})
}

func TestOTLPWaitsForRoomWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{before: func(context.Context, int) (int64, error) { time.Sleep(time.Second); return 0, nil }}
		e, _ := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchSpans, o.MaxQueueSpans, o.Wait = 10, 20, true })
		for id := range byte(40) {
			e.Export(madeTrace(id, 10, 5))
		}
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Exported != 400 || s.Lost() != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestOTLPCountsAndReportsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{before: func(context.Context, int) (int64, error) { return 0, errors.New("connection refused") }}
		e, logged := newTestOTLP(t, r, func(o *OTLPOptions) { o.MaxBatchSpans = 10 })
		for id := range byte(25) {
			e.Export(madeTrace(id, 10, 5))
			time.Sleep(time.Second)
		}
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Failed != 250 || s.Batches != 25 {
			t.Errorf("%+v", s)
		}
		lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
		if len(lines) != 3 {
			t.Fatalf("%d lines in 25 seconds, want the first and one every 10 s:\n%s", len(lines), logged)
		}
		if !strings.Contains(lines[0], "connection refused") || !strings.Contains(lines[0], "spans=10") {
			t.Errorf("first line: %s", lines[0])
		}
		if !strings.Contains(lines[1], "spans=100") || !strings.Contains(lines[1], "not_reported=9") {
			t.Errorf("second line: %s", lines[1])
		}
		checkBooks(t, e.Stats())
	})
}

func TestOTLPCountsPartialSuccess(t *testing.T) {
	r := &receiver{before: func(context.Context, int) (int64, error) { return 3, errors.New("too old") }}
	e, logged := newTestOTLP(t, r, nil)
	e.Export(madeTrace(1, 10, 5))
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if s := e.Stats(); s.Rejected != 3 || s.Exported != 7 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(logged.String(), "rejects") || !strings.Contains(logged.String(), "too old") {
		t.Errorf("log: %s", logged)
	}
}

func TestOTLPShutdownEndsWithItsDeadline(t *testing.T) {
	for _, c := range []struct {
		name         string
		upload       func(context.Context, int) (int64, error)
		unsent, fail uint64
		takes        time.Duration
	}{
		{"upload that listens", func(ctx context.Context, _ int) (int64, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}, 30, 20, time.Second},
		{"upload that does not", func(context.Context, int) (int64, error) {
			time.Sleep(time.Hour)
			return 0, nil
		}, 50, 0, time.Second + abandonAfter},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _ := newTestOTLP(t, &receiver{before: c.upload}, func(o *OTLPOptions) { o.MaxBatchSpans = 10 })
				for id := range byte(5) {
					e.Export(madeTrace(id, 10, 5))
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				err := e.Shutdown(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "50 lost") {
					t.Errorf("error %v", err)
				}
				if took := time.Since(start); took != c.takes {
					t.Errorf("took %s, want %s", took, c.takes)
				}
				s := e.Stats()
				if s.Unsent != c.unsent || s.Failed != c.fail {
					t.Errorf("%+v", s)
				}
				checkBooks(t, s)
				time.Sleep(2 * time.Hour) // a late result changes nothing
				if late := e.Stats(); late != s {
					t.Errorf("counters changed after Shutdown: %+v", late)
				}
			})
		})
	}
}

func TestOTLPRefusesWhatCannotWork(t *testing.T) {
	if _, err := NewOTLP(OTLPOptions{}); err == nil {
		t.Error("no error without an upload")
	}
	o := OTLPOptions{Envelope: testEnvelope(), Upload: (&receiver{}).upload, Log: slog.Default(), MaxBatchBytes: 20}
	if _, err := NewOTLP(o); err == nil || !strings.Contains(err.Error(), "raise the limit") {
		t.Errorf("error %v", err)
	}
}

func TestOTLPCountsWhatComesAfterShutdown(t *testing.T) {
	e, _ := newTestOTLP(t, &receiver{}, nil)
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	e.Export(madeTrace(1, 5, 5))
	if s := e.Stats(); s.Unsent != 5 {
		t.Errorf("%+v", s)
	}
}
