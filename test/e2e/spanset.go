package e2e

import (
	"cmp"
	"fmt"
	"slices"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Span is one span with everything that a back-end has to keep, free of the
// grouping by resource and scope that each back-end does its own way.
type Span struct {
	// Ids in hexadecimal; ParentSpanID is empty for a root.
	TraceID, SpanID, ParentSpanID string
	Name                          string
	Kind                          string
	// Wall clock, nanoseconds since 1970.
	StartUnixNs, EndUnixNs uint64
	// Status is "Unset", "Ok" or "Error".
	Status, StatusMessage string
	// Values keep their OTLP type: string, bool, int64, float64, []byte, []any,
	// map[string]any.
	Attributes, Resource    map[string]any
	ScopeName, ScopeVersion string
	Links                   []Link
	Events                  []Event
}

// Link points from a span to a span of another trace.
type Link struct {
	TraceID, SpanID string
	Attributes      map[string]any
}

// Event is something that happened during a span.
type Event struct {
	Name       string
	TimeUnixNs uint64
	Attributes map[string]any
}

// Flatten returns all spans of traces in order of trace id, span id and start.
// A span that is there twice is returned twice.
func Flatten(traces ptrace.Traces) []Span {
	spans := make([]Span, 0, traces.SpanCount())
	for _, resource := range traces.ResourceSpans().All() {
		attributes := resource.Resource().Attributes().AsRaw()
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				flat := flatten(span)
				flat.Resource = attributes
				flat.ScopeName, flat.ScopeVersion = scope.Scope().Name(), scope.Scope().Version()
				spans = append(spans, flat)
			}
		}
	}
	slices.SortStableFunc(spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.TraceID, b.TraceID), cmp.Compare(a.SpanID, b.SpanID),
			cmp.Compare(a.StartUnixNs, b.StartUnixNs))
	})
	return spans
}

func flatten(span ptrace.Span) Span {
	flat := Span{
		TraceID:       span.TraceID().String(),
		SpanID:        span.SpanID().String(),
		ParentSpanID:  span.ParentSpanID().String(),
		Name:          span.Name(),
		Kind:          span.Kind().String(),
		StartUnixNs:   uint64(span.StartTimestamp()),
		EndUnixNs:     uint64(span.EndTimestamp()),
		Status:        span.Status().Code().String(),
		StatusMessage: span.Status().Message(),
		Attributes:    span.Attributes().AsRaw(),
	}
	for _, link := range span.Links().All() {
		flat.Links = append(flat.Links, Link{
			TraceID: link.TraceID().String(), SpanID: link.SpanID().String(),
			Attributes: link.Attributes().AsRaw(),
		})
	}
	for _, event := range span.Events().All() {
		flat.Events = append(flat.Events, Event{
			Name: event.Name(), TimeUnixNs: uint64(event.Timestamp()), Attributes: event.Attributes().AsRaw(),
		})
	}
	return flat
}

// TraceIDs returns the different trace ids of spans in order.
func TraceIDs(spans []Span) []string {
	var ids []string
	for _, span := range spans {
		ids = append(ids, span.TraceID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Compare returns one sentence for each span that is in want and not in got, in
// got and not in want, there a different number of times, or different in any
// field. It returns nil when both hold the same spans in whatever order.
func Compare(want, got []Span) []string {
	type key struct{ trace, span string }
	group := func(spans []Span) (map[key][]Span, []key) {
		groups := make(map[key][]Span)
		var keys []key
		for _, span := range spans {
			k := key{span.TraceID, span.SpanID}
			if groups[k] == nil {
				keys = append(keys, k)
			}
			groups[k] = append(groups[k], span)
		}
		return groups, keys
	}
	wanted, keys := group(want)
	gotten, gotKeys := group(got)
	for _, k := range gotKeys {
		if wanted[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.trace, b.trace), cmp.Compare(a.span, b.span))
	})
	var differences []string
	for _, k := range keys {
		w, g := wanted[k], gotten[k]
		name := fmt.Sprintf("span %s of trace %s (%s)", k.span, k.trace, append(slices.Clone(w), g...)[0].Name)
		switch {
		case len(g) == 0:
			differences = append(differences, name+" is missing")
		case len(w) == 0:
			differences = append(differences, name+" was never sent")
		case len(w) != len(g):
			differences = append(differences, fmt.Sprintf("%s: want %d of it, got %d", name, len(w), len(g)))
		default:
			// An absent list or map and an empty one are the same on the wire.
			if diff := gocmp.Diff(w, g, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
				differences = append(differences, name+" differs (-want +got):\n"+diff)
			}
		}
	}
	return differences
}
