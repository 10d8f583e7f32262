package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
)

const (
	// icmpEcho is the type of a ping's request.
	icmpEcho = 8
	// writtenBytes is what guest.sh has dd write.
	writtenBytes = 65536
)

// scene is one picture: a trace on Jaeger's page.
type scene struct {
	// name is the picture's file, without its ending.
	name string
	// files are those of guest.sh that hold the kernel's spans of the trace.
	files []string
	// wanted tells the id of the trace that a span of files says may be shown, "" of
	// others. The quickest of them is.
	wanted func(e2e.Span) string
	// elsewhere is how many spans of the trace are in no file: the application's own.
	elsewhere int
	// details is the name of the span whose attributes are shown, from the attribute
	// topmost on; "" for none.
	details, topmost string
}

// scenes are all pictures.
func scenes() []scene {
	return []scene{
		{
			name: "packet", files: []string{"packet"},
			wanted: roots(func(s e2e.Span) bool { return s.Attributes["otel_kprobe.icmp.type"] == int64(icmpEcho) }),
		},
		{
			name: "drop", files: []string{"drop"},
			wanted:  roots(func(s e2e.Span) bool { return s.Status == "Error" }),
			details: "packet tx udp", topmost: "otel_kprobe.drop.location",
		},
		{
			name: "block", files: []string{"block"},
			wanted: roots(func(s e2e.Span) bool {
				return s.Attributes["thread.name"] == "dd" && s.Attributes["otel_kprobe.block.bytes"] == int64(writtenBytes)
			}),
			details: "block write", topmost: "otel_kprobe.block.level",
		},
		{
			name: "request", files: []string{"request", "request-block"},
			wanted: submitter, elsewhere: 4,
		},
	}
}

// roots wants the traces whose root is so.
func roots(so func(e2e.Span) bool) func(e2e.Span) string {
	return func(s e2e.Span) string {
		if s.ParentSpanID != "" || !so(s) {
			return ""
		}
		return s.TraceID
	}
}

// submitter wants the application's traces that caused block requests.
func submitter(s e2e.Span) string {
	if id, ok := s.Attributes["otel_kprobe.app.trace_id"].(string); ok && strings.HasPrefix(s.Name, "block ") {
		return id
	}
	return ""
}

// quickest returns which of the traces that are wanted took the shortest time: in an
// emulator what runs for the first time, or while the host is busy, takes many times as
// long.
func quickest(spans []e2e.Span, wanted func(e2e.Span) string) (string, error) {
	type extent struct{ startUnixNs, endUnixNs uint64 }
	extents := map[string]extent{}
	for _, s := range spans {
		x, ok := extents[s.TraceID]
		if !ok {
			x.startUnixNs = s.StartUnixNs
		}
		extents[s.TraceID] = extent{min(x.startUnixNs, s.StartUnixNs), max(x.endUnixNs, s.EndUnixNs)}
	}
	best, bestNs := "", uint64(math.MaxUint64)
	for _, s := range spans {
		id := wanted(s)
		x, ok := extents[id]
		if ok && x.endUnixNs-x.startUnixNs < bestNs {
			best, bestNs = id, x.endUnixNs-x.startUnixNs
		}
	}
	if best == "" {
		return "", fmt.Errorf("none of %d spans is of a trace to show: see what guest.sh printed", len(spans))
	}
	return best, nil
}

// takeAll takes all pictures into the directory out, of the Jaeger whose query API is at
// base and of what guest.sh left in kept.
func takeAll(ctx context.Context, base, kept, out string) error {
	client := e2e.NewJaegerClient(base)
	defer client.Close()
	browser, err := startBrowser(ctx)
	if err != nil {
		return err
	}
	defer browser.stop()
	for _, s := range scenes() {
		if err := s.take(ctx, client, browser, base, kept, filepath.Join(out, s.name+".png")); err != nil {
			return fmt.Errorf("take the picture %s: %w", s.name, err)
		}
	}
	return nil
}

// take waits until Jaeger has the whole trace, and writes the picture to path.
func (s *scene) take(ctx context.Context, client *e2e.JaegerClient, b *browser, base, kept, path string) error {
	ctx, cancel := context.WithTimeout(ctx, jaegerBudget)
	defer cancel()
	var spans []e2e.Span
	for _, name := range s.files {
		traces, err := e2e.ReadTracesFile(filepath.Join(kept, name+".jsonl"))
		if err != nil {
			return err
		}
		spans = append(spans, e2e.Flatten(traces)...)
	}
	id, err := quickest(spans, s.wanted)
	if err != nil {
		return err
	}
	count := s.elsewhere
	for i := range spans {
		if spans[i].TraceID == id {
			count++
		}
	}
	if _, err := client.AwaitTrace(ctx, id, count); err != nil {
		return err
	}
	picture, err := b.take(ctx, base+"/trace/"+id, s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}
