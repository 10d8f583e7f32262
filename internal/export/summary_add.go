package export

// Add takes what another run of the same section of a service came to: its set of
// programs was replaced when the filter changed. Time and histograms stay, and
// exporters, which both share.
func (s *Summary) Add(o *Summary) {
	s.Backend = o.Backend
	s.Attached, s.Skipped = o.Attached, o.Skipped
	s.FunctionsShed = o.FunctionsShed
	s.AttachNs += o.AttachNs
	for _, sum := range []struct {
		to   *uint64
		more uint64
	}{
		{&s.Frames, o.Frames},
		{&s.Submitted, o.Submitted},
		{&s.Tracked, o.Tracked},
		{&s.Traces, o.Traces},
		{&s.Spans, o.Spans},
		{&s.Unsampled, o.Unsampled},
		{&s.PassedOver, o.PassedOver},
		{&s.WirePassedOver, o.WirePassedOver},
		{&s.FramesPassedOver, o.FramesPassedOver},
		{&s.HandedOver, o.HandedOver},
		{&s.FramesHandedOver, o.FramesHandedOver},
		{&s.Waits, o.Waits},
		{&s.Summed, o.Summed},
		{&s.Copied, o.Copied},
		{&s.SummariesLeftOut, o.SummariesLeftOut},
		{&s.CopiesLeftOut, o.CopiesLeftOut},
		{&s.Wire.Requests, o.Wire.Requests},
		{&s.Wire.Contexts, o.Wire.Contexts},
		{&s.Wire.Malformed, o.Wire.Malformed},
		{&s.Wire.Cut, o.Wire.Cut},
		{&s.Wire.Broken, o.Wire.Broken},
		{&s.Wire.Forgotten, o.Wire.Forgotten},
		{&s.FramesShed, o.FramesShed},
		{&s.CPUExceeded, o.CPUExceeded},
		{&s.LossExceeded, o.LossExceeded},
		{&s.Applications, o.Applications},
		{&s.ApplicationsUnread, o.ApplicationsUnread},
		{&s.Tracker.Open, o.Tracker.Open},
		{&s.Tracker.Evicted, o.Tracker.Evicted},
		{&s.Tracker.Late, o.Tracker.Late},
		{&s.Tracker.LateFrames, o.Tracker.LateFrames},
		{&s.Tracker.LeftOut, o.Tracker.LeftOut},
		{&s.Tracker.LeftFrames, o.Tracker.LeftFrames},
		{&s.Tracker.Unfinished, o.Tracker.Unfinished},
		{&s.Tracker.LostFrames, o.Tracker.LostFrames},
		{&s.Tracker.LostStarts, o.Tracker.LostStarts},
		{&s.Tracker.LostEnds, o.Tracker.LostEnds},
	} {
		*sum.to += sum.more
	}
	lost := make(map[string]uint64, len(o.KernelLost))
	for _, one := range []map[string]uint64{s.KernelLost, o.KernelLost} {
		for name, value := range one {
			lost[name] += value
		}
	}
	s.KernelLost = lost
}
