package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
)

// scene is one picture: a trace on Jaeger's page.
type scene struct {
	// name is the picture's file, without its ending.
	name string
	// files are those of guest.sh that hold the kernel's spans of the trace.
	files []string
	// trace chooses the trace among the spans of files.
	trace func([]e2e.Span) (string, error)
	// elsewhere is how many spans of the trace are in no file: the application's own.
	elsewhere int
	// details is the name of the span whose attributes are shown, "" for none.
	details string
	// heightPx cuts the picture off where the trace is longer.
	heightPx int64
}

// scenes are all pictures.
func scenes() []scene {
	return []scene{
		{
			name: "packet", files: []string{"packet"}, heightPx: 1500,
			trace: first(func(s e2e.Span) bool {
				return s.Attributes["otel_kprobe.icmp.type"] == int64(8)
			}),
		},
		{
			name: "drop", files: []string{"drop"}, heightPx: 1500,
			trace: first(func(s e2e.Span) bool { return s.Status == "Error" }), details: "packet tx udp",
		},
		{
			name: "block", files: []string{"block"}, heightPx: 1500,
			trace: first(func(s e2e.Span) bool {
				return s.Attributes["system.device"] == "md0" && s.Attributes["disk.io.direction"] == "write" && s.Attributes["thread.name"] == "dd"
			}), details: "block write",
		},
		{
			name: "request", files: []string{"request", "request-block"}, heightPx: 1500,
			trace: application, elsewhere: 4,
		},
	}
}

// first chooses the trace whose root is the first, in time, that is wanted.
func first(wanted func(e2e.Span) bool) func([]e2e.Span) (string, error) {
	return func(spans []e2e.Span) (string, error) {
		roots := slices.DeleteFunc(slices.Clone(spans), func(s e2e.Span) bool { return s.ParentSpanID != "" || !wanted(s) })
		if len(roots) == 0 {
			return "", fmt.Errorf("none of %d spans is the root that is wanted", len(spans))
		}
		return slices.MinFunc(roots, byStart).TraceID, nil
	}
}

func byStart(a, b e2e.Span) int { return cmp.Compare(a.StartUnixNs, b.StartUnixNs) }

// application chooses the second of the application's traces that caused block requests:
// the first one opens the connections.
func application(spans []e2e.Span) (string, error) {
	var ids []string
	spans = slices.SortedFunc(slices.Values(spans), byStart)
	for _, s := range spans {
		id, _ := s.Attributes["otel_kprobe.app.trace_id"].(string)
		if id != "" && strings.HasPrefix(s.Name, "block ") && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) < 2 {
		return "", fmt.Errorf("%d traces of the application caused block requests, want two", len(ids))
	}
	return ids[1], nil
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
	id, err := s.trace(spans)
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
