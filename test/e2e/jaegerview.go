package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// AsJaegerKeeps returns what Jaeger v1.62 makes of spans. Its own data model has
// no lists and no attributes on links, and marks where a span came from; ids,
// names, times and all other values stay exactly as they were sent.
func AsJaegerKeeps(spans []Span) ([]Span, error) {
	kept := make([]Span, len(spans))
	for i, span := range spans {
		var err error
		if span.Attributes, err = scalars(span.Attributes); err != nil {
			return nil, fmt.Errorf("span %s: %w", span.SpanID, err)
		}
		span.Attributes["internal.span.format"] = "otlp"
		if span.Resource, err = scalars(span.Resource); err != nil {
			return nil, fmt.Errorf("resource of span %s: %w", span.SpanID, err)
		}
		span.Links = slices.Clone(span.Links)
		for j := range span.Links {
			span.Links[j].Attributes = map[string]any{"opentracing.ref_type": "follows_from"}
		}
		span.Events = slices.Clone(span.Events)
		for j := range span.Events {
			if span.Events[j].Attributes, err = scalars(span.Events[j].Attributes); err != nil {
				return nil, fmt.Errorf("event of span %s: %w", span.SpanID, err)
			}
		}
		kept[i] = span
	}
	return kept, nil
}

// scalars copies attributes and replaces lists and maps by their JSON text.
func scalars(attributes map[string]any) (map[string]any, error) {
	kept := make(map[string]any, len(attributes)+1)
	maps.Copy(kept, attributes)
	for key, value := range kept {
		switch value.(type) {
		case []any, map[string]any:
			text, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("write attribute %s as JSON: %w", key, err)
			}
			kept[key] = string(text)
		}
	}
	return kept, nil
}
