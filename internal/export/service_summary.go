package export

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// ServiceSummary is what a service came to. Its JSON names are stable: programs
// read them from the file of --summary-file.
type ServiceSummary struct {
	Packets *Summary `json:"packets,omitempty"` // nil: they were not traced
	Block   *Summary `json:"block,omitempty"`   // nil: they were not traced
	// Exporters are shared by both.
	Exporters     []ExporterSummary `json:"exporters"`
	Reloads       uint64            `json:"reloads"`
	ReloadsFailed uint64            `json:"reloads_failed"` // that left all as it was
	// MetricSendsFailed counts sends of the service's own metrics.
	MetricSendsFailed uint64 `json:"metric_sends_failed"`
}

// Whole has the exporters, and what else tells whether something was lost on its
// way out.
func (s *ServiceSummary) Whole() *Summary {
	whole := &Summary{Exporters: s.Exporters}
	if s.Block != nil {
		whole.HistogramsUnsent = s.Block.HistogramsUnsent
	}
	return whole
}

// String gives one line for each section and one for the exporters.
func (s *ServiceSummary) String() string {
	var b strings.Builder
	if s.Packets != nil {
		fmt.Fprintf(&b, "packets: %s\n", s.Packets)
	}
	if s.Block != nil {
		fmt.Fprintf(&b, "block: %s\n", s.Block)
	}
	b.WriteString("exported")
	if len(s.Exporters) == 0 {
		b.WriteString(" nothing")
	}
	for i, e := range s.Exporters {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %d to %s", e.Exported, e.Name)
	}
	if s.Reloads+s.ReloadsFailed > 0 {
		fmt.Fprintf(&b, "; %d reloads, %d failed", s.Reloads, s.ReloadsFailed)
	}
	return b.String() + lossesText((&Summary{Exporters: s.Exporters}).Losses())
}

// WriteJSON writes the summary as one JSON object, indented.
func (s *ServiceSummary) WriteJSON(w io.Writer) error {
	c := *s
	if c.Exporters == nil {
		c.Exporters = []ExporterSummary{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}
