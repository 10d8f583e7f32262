package export

import (
	"fmt"

	"github.com/otel-kprobe/otel-kprobe/internal/correlate"
)

// WireSummary says which requests were seen in packets' data, and why some of them
// named no span. One without a traceparent is counted in Requests only.
type WireSummary struct {
	Requests  uint64 `json:"requests"`
	Contexts  uint64 `json:"contexts"`  // requests that named a span
	Malformed uint64 `json:"malformed"` // their traceparent was none, or not the only one
	Cut       uint64 `json:"cut"`       // their head was longer than what is looked at
	Broken    uint64 `json:"broken"`    // a part of their head was not seen
	Forgotten uint64 `json:"forgotten"` // connections beyond those that are remembered
}

// NewWireSummary takes what correlate.Connections counted.
func NewWireSummary(c correlate.Counters) WireSummary {
	return WireSummary{
		Requests: c.Requests, Contexts: c.Contexts, Malformed: c.Malformed, Cut: c.Cut,
		Broken: c.Broken, Forgotten: c.Forgotten,
	}
}

// text tells of what was not understood, "" if there is nothing of it.
func (w WireSummary) text() string {
	if w.Malformed+w.Cut+w.Broken+w.Forgotten == 0 {
		return ""
	}
	return fmt.Sprintf(", %d requests in packets (%d name a span; not understood: %d malformed, %d cut, %d broken, %d forgotten)",
		w.Requests, w.Contexts, w.Malformed, w.Cut, w.Broken, w.Forgotten)
}
