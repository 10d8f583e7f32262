package main

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// latencies are the histograms of a run: counted here from each request, or in
// the kernel, from where update fetches them. It is not safe for concurrent use.
type latencies struct {
	by    blockio.By
	names spans.BlockNames
	// kernel reads what the kernel has counted since the start; nil when the
	// requests are counted here.
	kernel func() (map[bpf.BlockKey]*bpf.BlockHistogram, error)

	whole    *blockio.Histograms // since the start
	interval *blockio.Histograms // since the last nextInterval
	slowest  map[blockio.Key]latencyExemplar
}

func newLatencies(by blockio.By, names spans.BlockNames) *latencies {
	return &latencies{
		by: by, names: names,
		whole:    blockio.NewHistograms(0),
		interval: blockio.NewHistograms(0),
		slowest:  map[blockio.Key]latencyExemplar{},
	}
}

// observe counts a request and those below it. It is a pipeline's observe.
func (l *latencies) observe(r *blockio.Request, t *spans.Trace, exported bool) {
	if l.kernel == nil && blockio.Counted(l.by, r) {
		l.count(&r.Block, t, exported)
	}
	for _, child := range r.Children {
		l.observe(child, t, exported)
	}
}

// count counts one request. An exemplar has to be a span that can be found.
func (l *latencies) count(b *event.Block, t *spans.Trace, exported bool) {
	ns, _ := blockio.Latency(b)
	key := blockio.KeyOf(l.by, b)
	l.whole.Add(key, ns)
	l.interval.Add(key, ns)
	if !exported {
		return
	}
	if slowest, ok := l.slowest[key]; ok && slowest.ns >= ns || !ok && len(l.slowest) >= blockio.DefaultMaxKeys {
		return
	}
	for i := range t.Spans {
		s := &t.Spans[i]
		if s.Block != nil && !s.Wait && s.Block.ID == b.ID {
			l.slowest[key] = latencyExemplar{ns: ns, traceID: t.ID, spanID: s.ID, unixNs: s.EndUnixNs}
			return
		}
	}
}

// update fetches what the kernel has counted, if it does.
func (l *latencies) update() error {
	if l.kernel == nil {
		return nil
	}
	counted, err := l.kernel()
	if err != nil {
		return err
	}
	before := l.whole
	l.whole = blockio.NewHistograms(len(counted))
	for key, h := range counted {
		l.whole.Merge(blockio.Key(key), &blockio.Histogram{
			Counts: h.Counts, Count: h.Count, SumNs: h.SumNs, MinNs: h.MinNs, MaxNs: h.MaxNs,
		})
	}
	l.addDifference(before)
	return nil
}

// addDifference adds to the interval what has come since before.
func (l *latencies) addDifference(before *blockio.Histograms) {
	known := map[blockio.Key]*blockio.Histogram{}
	for _, k := range before.All() {
		known[k.Key] = k.Histogram
	}
	for _, k := range l.whole.All() {
		difference := *k.Histogram
		if earlier := known[k.Key]; earlier != nil {
			difference.Minus(earlier)
		}
		if difference.Count > 0 {
			l.interval.Merge(k.Key, &difference)
		}
	}
}

// nextInterval gives the histograms of the time since it was last called.
func (l *latencies) nextInterval() []export.NamedHistogram {
	groups := l.named(l.interval)
	l.interval = blockio.NewHistograms(0)
	return groups
}

// named gives histograms with the names of their keys, most counts first.
func (l *latencies) named(all *blockio.Histograms) []export.NamedHistogram {
	var groups []export.NamedHistogram
	for _, k := range all.All() {
		groups = append(groups, export.NamedHistogram{Name: l.name(k.Key), Histogram: k.Histogram})
	}
	return groups
}

func (l *latencies) name(k blockio.Key) string {
	if l.by == blockio.ByNone {
		return ""
	}
	if k == blockio.OverflowKey() {
		return "all other " + l.by.String()
	}
	return l.by.String() + " " + l.value(k)
}

// value names what a key stands for.
func (l *latencies) value(k blockio.Key) string {
	var name string
	switch l.by {
	case blockio.ByDevice:
		if name = l.names.Device(k.Device()); name == "" {
			name = fmt.Sprintf("%d:%d", k.Device()>>20, k.Device()&(1<<20-1))
		}
	case blockio.ByOperation:
		if name = l.names.Operation(k.Op()); name == "" {
			name = fmt.Sprintf("op %d", k.Op())
		}
	case blockio.ByCgroup:
		if name = l.names.Cgroup(k.Cgroup()); name == "" {
			name = fmt.Sprintf("id %d", k.Cgroup())
		}
	case blockio.ByProcess:
		if name = k.Comm(); name == "" {
			name = "unknown"
		}
	case blockio.ByNone:
	}
	return name
}

// points are the whole run's histograms as metrics, with the slowest requests
// since the last call. They share no memory with l.
func (l *latencies) points() []latencyPoint {
	var points []latencyPoint
	for _, k := range l.whole.All() {
		histogram := *k.Histogram
		point := latencyPoint{key: k.Key, attributes: l.attributes(k.Key), histogram: &histogram}
		if slowest, ok := l.slowest[k.Key]; ok {
			point.exemplar = &slowest
		}
		points = append(points, point)
	}
	clear(l.slowest)
	return points
}

// restore takes back the exemplars of points that did not arrive.
func (l *latencies) restore(points []latencyPoint) {
	for _, p := range points {
		if p.exemplar == nil {
			continue
		}
		if slowest, ok := l.slowest[p.key]; !ok || slowest.ns < p.exemplar.ns {
			l.slowest[p.key] = *p.exemplar
		}
	}
}

// attributes are those of docs/spans.md that tell the histograms apart.
func (l *latencies) attributes(k blockio.Key) []attribute.KeyValue {
	if l.by == blockio.ByNone {
		return nil
	}
	value := "other"
	if k != blockio.OverflowKey() {
		value = l.value(k)
	}
	key := map[blockio.By]spans.Key{
		blockio.ByDevice:    spans.KeySystemDevice,
		blockio.ByOperation: spans.KeyBlockOperation,
		blockio.ByCgroup:    spans.KeyCgroupPath,
		blockio.ByProcess:   spans.KeyThreadName,
	}[l.by]
	all := []attribute.KeyValue{attribute.String(key.String(), value)}
	if l.by == blockio.ByOperation && (value == "read" || value == "write") {
		all = append(all, attribute.String(spans.KeyDiskIODirection.String(), value))
	}
	return all
}

// errDevicesGone ends a run whose devices were all removed.
var errDevicesGone = errors.New("tracing ended early")

// schedule tells when something that is done again and again is due.
type schedule struct {
	every time.Duration // 0: never
	next  time.Time
}

func (s *schedule) due(now time.Time) bool {
	if s.every == 0 || now.Before(s.next) {
		return false
	}
	s.next = s.next.Add(s.every)
	if s.next.Before(now) {
		s.next = now.Add(s.every)
	}
	return true
}
