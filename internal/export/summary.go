package export

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// Summary is what a run came to. Its JSON names are stable: programs read them
// from the file of --summary-file.
type Summary struct {
	DurationNs uint64 `json:"duration_ns"` // from listening to detaching; 0 for a replay
	Backend    string `json:"backend"`     // "" for a replay
	AttachNs   uint64 `json:"attach_ns"`   // from the start to listening; 0 for a replay
	Attached   uint64 `json:"probes_attached"`
	Skipped    uint64 `json:"probes_skipped"`
	Frames     uint64 `json:"frames"`           // that came from the kernel
	Submitted  uint64 `json:"frames_submitted"` // that the kernel side sent; all of them should have come
	Tracked    uint64 `json:"skbs_tracked"`     // skbs that were still followed at the end
	Traces     uint64 `json:"traces"`
	Spans      uint64 `json:"spans"`
	// Unsampled counts packets, or requests and bios, that --sample left out; no loss.
	Unsampled uint64 `json:"unsampled,omitempty"`
	// PassedOver counts traces that --only did not want, FramesPassedOver their frames.
	// WirePassedOver counts those among them that it would have wanted, had not too many
	// others been correlated by their packets alone.
	PassedOver       uint64 `json:"traces_passed_over,omitempty"`
	WirePassedOver   uint64 `json:"traces_passed_over_of_wire,omitempty"`
	FramesPassedOver uint64 `json:"frames_passed_over,omitempty"`
	// HandedOver counts journeys that another set of programs follows, since the filter
	// changed, FramesHandedOver their frames.
	HandedOver       uint64 `json:"journeys_handed_over,omitempty"`
	FramesHandedOver uint64 `json:"frames_handed_over,omitempty"`
	Waits            uint64 `json:"waits"`                  // spans among them that are a packet's wait: of no frame, and no root
	Summed           uint64 `json:"summaries,omitempty"`    // spans among them that summarize what an application's span caused
	Copied           uint64 `json:"copied_spans,omitempty"` // spans among them that are copies of others, in an application's trace; a console gets none
	// What stays out of applications' traces to keep them bounded. SummariesLeftOut
	// counts the spans of applications that have no summary, of each trace that only its
	// packets correlate; CopiesLeftOut the traces that were not copied.
	SummariesLeftOut uint64      `json:"summaries_left_out,omitempty"`
	CopiesLeftOut    uint64      `json:"copies_left_out,omitempty"`
	Wire             WireSummary `json:"wire,omitzero"`
	// Applications counts programs that were probed because they tell of their spans,
	// ApplicationsUnread those of which it is not known whether they do.
	Applications       uint64 `json:"applications,omitempty"`
	ApplicationsUnread uint64 `json:"applications_unread,omitempty"`
	// FunctionsShed counts the functions whose frames are not recorded, since too many
	// events came, FramesShed the frames that were not for that reason.
	FunctionsShed uint64 `json:"functions_shed,omitempty"`
	FramesShed    uint64 `json:"frames_shed,omitempty"`
	// Windows of time in which tracing passed the limits of --max-cpu and --max-loss.
	CPUExceeded  uint64 `json:"cpu_exceeded,omitempty"`
	LossExceeded uint64 `json:"loss_exceeded,omitempty"`
	// KernelLost is what the kernel side could not send or follow, by counter.
	KernelLost map[string]uint64 `json:"kernel_lost"`
	Tracker    TrackerSummary    `json:"tracker"`
	Exporters  []ExporterSummary `json:"exporters"`

	// Block says that requests were traced. The members below are left out of
	// the JSON where they are zero, so of every run that traced none.
	Block             bool                `json:"-"`
	Requests          uint64              `json:"requests,omitempty"`           // records of requests and bios that came from the kernel, or were counted there
	RequestsSubmitted uint64              `json:"requests_submitted,omitempty"` // that the kernel side sent; all of them should have come
	InFlight          uint64              `json:"requests_in_flight,omitempty"` // requests that were still under way at the end
	BlockTracker      BlockTrackerSummary `json:"block_tracker,omitzero"`
	Histograms        []HistogramSummary  `json:"histograms,omitempty"`

	HistogramSendsFailed uint64 `json:"histogram_sends_failed,omitempty"` // sends of the histograms that did not arrive whole
	HistogramsUnsent     uint64 `json:"histograms_unsent,omitempty"`      // histograms that were in the last send, which did not
}

// TrackerSummary says what became of the journeys.
type TrackerSummary struct {
	Open       uint64 `json:"open"`        // not emitted
	Evicted    uint64 `json:"evicted"`     // journeys closed to make room
	Late       uint64 `json:"late"`        // events that came after their journey was emitted
	LateFrames uint64 `json:"late_frames"` // frames among them
	LeftOut    uint64 `json:"left_out"`    // events beyond what one journey may have
	LeftFrames uint64 `json:"left_frames"` // frames among them
	Unfinished uint64 `json:"unfinished"`  // journeys whose end was not seen
	LostFrames uint64 `json:"lost_frames"` // frames that were entered and never came
	LostStarts uint64 `json:"lost_starts"` // journeys whose start never came
	LostEnds   uint64 `json:"lost_ends"`   // skbs whose end never came
}

// NewTrackerSummary takes what a journey.Tracker counted.
func NewTrackerSummary(s journey.Stats) TrackerSummary {
	return TrackerSummary{
		Open: s.Open, Evicted: s.Evicted, Late: s.LateEvents, LateFrames: s.LateFrames,
		LeftOut: s.LeftOut, LeftFrames: s.LeftOutFrames, Unfinished: s.Unfinished,
		LostFrames: s.LostFrames, LostStarts: s.LostStarts, LostEnds: s.LostEnds,
	}
}

// ExporterSummary says what became of the spans that an exporter got. Spans is
// the sum of those exported, dropped, rejected, failed, unsent and unread.
type ExporterSummary struct {
	Name     string `json:"name"` // as in --exporter
	Traces   uint64 `json:"traces"`
	Spans    uint64 `json:"spans"`
	Exported uint64 `json:"exported"`
	Dropped  uint64 `json:"dropped"`
	Rejected uint64 `json:"rejected"`
	Failed   uint64 `json:"failed"`
	Unsent   uint64 `json:"unsent"`
	Unread   uint64 `json:"unread"` // not written because the console's reader had gone; no loss
	Batches  uint64 `json:"batches"`
	Bytes    uint64 `json:"bytes"`
}

// NewExporterSummary takes what an exporter counted.
func NewExporterSummary(name string, s Stats) ExporterSummary {
	return ExporterSummary{
		Name: name, Traces: s.Traces, Spans: s.Spans, Exported: s.Exported, Dropped: s.Dropped,
		Rejected: s.Rejected, Failed: s.Failed, Unsent: s.Unsent, Batches: s.Batches, Bytes: s.Bytes,
	}
}

// Lost is the number of spans that this exporter gave up.
func (e ExporterSummary) Lost() uint64 { return e.Dropped + e.Rejected + e.Failed + e.Unsent }

// ExportLost is the number of spans that were given up on their way out, by all
// exporters together.
func (s *Summary) ExportLost() uint64 {
	n := uint64(0)
	for _, e := range s.Exporters {
		n += e.Lost()
	}
	return n
}

// Count is a counter with its name.
type Count struct {
	Name  string
	Value uint64
}

// Losses gives every counter of a loss that is not zero, in the order of the
// way: kernel, tracker, exporters.
func (s *Summary) Losses() []Count {
	var all []Count
	for name, value := range s.KernelLost {
		all = append(all, Count{"kernel " + name, value})
	}
	slices.SortFunc(all, func(a, b Count) int { return strings.Compare(a.Name, b.Name) })
	t := &s.Tracker
	all = append(
		all,
		Count{"lost frames", t.LostFrames}, Count{"late events", t.Late}, Count{"left-out events", t.LeftOut},
		Count{"lost starts", t.LostStarts}, Count{"lost ends", t.LostEnds}, Count{"evicted journeys", t.Evicted},
	)
	all = append(all, s.BlockTracker.losses()...)
	for _, e := range s.Exporters {
		all = append(
			all,
			Count{e.Name + " dropped", e.Dropped}, Count{e.Name + " rejected", e.Rejected},
			Count{e.Name + " failed", e.Failed}, Count{e.Name + " unsent", e.Unsent},
		)
	}
	all = append(all, Count{"histograms unsent", s.HistogramsUnsent})
	return slices.DeleteFunc(all, func(c Count) bool { return c.Value == 0 })
}

// String gives the summary as one line.
func (s *Summary) String() string {
	var b strings.Builder
	if !s.Block || s.Frames > 0 {
		fmt.Fprintf(&b, "%d frames, ", s.Frames)
	}
	if s.Block {
		fmt.Fprintf(&b, "%d requests, ", s.Requests)
	}
	fmt.Fprintf(&b, "%d traces", s.Traces)
	b.WriteString(s.passedOver())
	if s.Unsampled > 0 {
		fmt.Fprintf(&b, ", %d %s not sampled", s.Unsampled, s.subject())
	}
	fmt.Fprintf(&b, ", %d spans", s.Spans)
	if s.Copied > 0 {
		fmt.Fprintf(&b, " (%d copies)", s.Copied)
	}
	if s.SummariesLeftOut > 0 {
		fmt.Fprintf(&b, ", %d summaries left out", s.SummariesLeftOut)
	}
	if s.CopiesLeftOut > 0 {
		fmt.Fprintf(&b, ", %d traces not copied", s.CopiesLeftOut)
	}
	b.WriteString(s.Wire.text())
	if s.FramesShed > 0 {
		fmt.Fprintf(&b, ", %d frames of shed functions not recorded", s.FramesShed)
	}
	if n := s.Tracker.Unfinished + s.BlockTracker.Unfinished; n > 0 {
		fmt.Fprintf(&b, ", %d unfinished", n)
	}
	for i, e := range s.Exporters {
		sep := ","
		if i == 0 {
			sep = "; exported"
		}
		fmt.Fprintf(&b, "%s %d to %s", sep, e.Exported, e.Name)
	}
	return b.String() + lossesText(s.Losses())
}

// lossesText is how a line ends that tells of losses, or that there were none.
func lossesText(losses []Count) string {
	if len(losses) == 0 {
		return "; nothing lost"
	}
	var b strings.Builder
	for i, c := range losses {
		sep := ","
		if i == 0 {
			sep = "; lost:"
		}
		fmt.Fprintf(&b, "%s %d (%s)", sep, c.Value, c.Name)
	}
	return b.String()
}

// subject is what is sampled.
func (s *Summary) subject() string {
	if s.Block {
		return "requests"
	}
	return "packets"
}

// passedOver tells of the traces that were.
func (s *Summary) passedOver() string {
	switch {
	case s.WirePassedOver > 0:
		return fmt.Sprintf(" (%d passed over, %d of them correlated by the wire)", s.PassedOver, s.WirePassedOver)
	case s.PassedOver > 0:
		return fmt.Sprintf(" (%d passed over)", s.PassedOver)
	}
	return ""
}

// WriteJSON writes the summary as one JSON object, indented.
func (s *Summary) WriteJSON(w io.Writer) error {
	c := *s
	if c.KernelLost == nil {
		c.KernelLost = map[string]uint64{}
	}
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
