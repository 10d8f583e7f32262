package spans

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Endings of a packet whose skb was taken over by what gives no further sign of it.
const (
	endStolen = "stolen"
	endQueued = "queued"
)

// verdict is what a function said of who has the skb from now on.
type verdict uint8

const (
	verdictNone   verdict = iota // it gives none
	verdictOther                 // go on, drop …: all that is seen to happen
	verdictStolen                // whoever said so keeps the skb
	verdictQueued                // a program has it, by NFQUEUE
)

// kept says how a packet of which no end was seen has left our sight, with the
// name of the function that said so; "" when that is not certain: the verdict must
// be the last on its skb, and nothing may have sent, received or queued that since.
func (b *Builder) kept() (how, by string) {
	t := &b.trace
	last, said := 0, verdictNone
	for i := 1; i < len(t.Spans); i++ {
		if last != 0 && t.Spans[i].EnterMonoNs < t.Spans[last].EnterMonoNs || !b.lasts(i) {
			continue
		}
		if v := b.verdict(&t.Spans[i]); v != verdictNone {
			last, said = i, v
		}
	}
	if said <= verdictOther || t.LostFrames > 0 || b.wentOn(last) {
		return "", ""
	}
	by = t.Spans[last].Function.Name
	if said == verdictQueued {
		return endQueued, by
	}
	return endStolen, by
}

// lasts says whether the span is a frame on an skb of which no end was seen after it.
func (b *Builder) lasts(span int) bool {
	s := &b.trace.Spans[span]
	if s.Wait || s.Frame.Flags&event.FrameNoSkb != 0 {
		return false
	}
	for i := range b.trace.Ends {
		e := &b.trace.Ends[i]
		if e.Skb == s.Frame.Skb && e.How != event.EndEvicted && s.EnterMonoNs <= e.AtMonoNs {
			return false
		}
	}
	return true
}

// wentOn says whether a function that sends, receives or queues packets was entered
// on the skb of a frame after that.
func (b *Builder) wentOn(span int) bool {
	t := &b.trace
	s := &t.Spans[span]
	for i := 1; i < len(t.Spans); i++ {
		o := &t.Spans[i]
		if o.Wait || o.Frame.Flags&event.FrameNoSkb != 0 || o.Frame.Skb != s.Frame.Skb {
			continue
		}
		if o.EnterMonoNs < s.EnterMonoNs || i <= span && o.EnterMonoNs == s.EnterMonoNs {
			continue
		}
		if f := b.names.function(o.Frame.Func); f.side != sideNone || f.wait != WaitNone || f.takes {
			return true
		}
	}
	return false
}

// verdict reads what the function of a frame returned, where that says who has the skb.
func (b *Builder) verdict(s *Span) verdict {
	if s.Incomplete || s.Frame.Flags&event.FrameEntryOnly != 0 {
		return verdictNone
	}
	fn, value := b.names.function(s.Frame.Func), int64(int32(uint32(s.Frame.Return)))
	switch {
	case fn.hook == event.HookTC || fn.means == resultTC:
		return verdictOfTC(value)
	case fn.means == resultHook:
		return verdictOfHook(value)
	case fn.means == resultHooks:
		if value == hooksAccept {
			return verdictOther
		}
	case b.runsAsHook(s):
		if fn.Name == "nf_queue" {
			return verdictQueued
		}
		return verdictOfHook(value)
	}
	return verdictNone
}

// runsAsHook says whether nf_hook_slow called the function of a frame and did not
// let the packet go on then: it is a netfilter hook, of a module that is unknown
// here too, or nf_queue.
func (b *Builder) runsAsHook(s *Span) bool {
	if s.ParentIndex <= 0 {
		return false
	}
	p := &b.trace.Spans[s.ParentIndex]
	return p.Frame.Skb == s.Frame.Skb && !p.Incomplete && b.names.function(p.Frame.Func).means == resultHooks &&
		int32(uint32(p.Frame.Return)) != hooksAccept
}

func verdictOfHook(value int64) verdict {
	switch value & verdictMask {
	case hookStolen:
		return verdictStolen
	case hookQueue:
		return verdictQueued
	}
	return verdictOther
}

func verdictOfTC(value int64) verdict {
	switch value {
	case tcStolen, tcQueued, tcTrap, tcConsumed:
		return verdictStolen
	}
	return verdictOther
}
