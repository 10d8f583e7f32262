package spans

import (
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// programPrefix is what the names of BPF programs begin with, by event.Hook.
var programPrefix = [...]string{event.HookTC: "tc:", event.HookXDP: "xdp:"}

// xdpActions are enum xdp_action of linux/bpf.h.
var xdpActions = [...]string{"XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"}

// tcActions are TC_ACT_… of linux/pkt_cls.h, from TC_ACT_OK on.
var tcActions = [...]string{
	"TC_ACT_OK", "TC_ACT_RECLASSIFY", "TC_ACT_SHOT", "TC_ACT_PIPE", "TC_ACT_STOLEN",
	"TC_ACT_QUEUED", "TC_ACT_REPEAT", "TC_ACT_REDIRECT", "TC_ACT_TRAP",
}

// xdpAction names what an XDP program returned; "" for what means nothing, which the
// kernel takes for XDP_ABORTED.
func xdpAction(value uint32) string {
	if value < uint32(len(xdpActions)) {
		return xdpActions[value]
	}
	return ""
}

// tcAction names what a tc program returned, as direct action reads it; "" for other
// values (the class id of a classifier without direct action).
func tcAction(value int32) string {
	switch {
	case value == -1:
		return "TC_ACT_UNSPEC"
	case value >= 0 && int(value) < len(tcActions):
		return tcActions[value]
	}
	return ""
}

// asProgram makes f, of which the name is known, what is known of a BPF program.
func (f *function) asProgram(hook event.Hook, id uint32) {
	f.hook, f.program, f.programName = hook, id, f.Name
	if f.Name == "" {
		f.Name = "unknown program"
	}
	f.Name, f.Module = programPrefix[hook]+f.Name, ""
	f.stage, f.ret = StageXDPTC, ReturnInt32
	if hook == event.HookXDP {
		f.side = sideRx
	}
}

// programAttrs adds which program ran in the span and what it decided.
func (b *Builder) programAttrs(s *Span, fn *function) {
	if fn.hook == event.HookNone {
		return
	}
	b.add(IntAttr(KeyProgramID, int64(fn.program)))
	if fn.programName != "" {
		b.add(StringAttr(KeyProgramName, fn.programName))
	}
	if s.Incomplete {
		return
	}
	value := uint32(s.Frame.Return)
	switch fn.hook {
	case event.HookTC:
		if action := tcAction(int32(value)); action != "" {
			b.add(StringAttr(KeyTCAction, action))
		}
	case event.HookXDP:
		if action := xdpAction(value); action != "" {
			b.add(StringAttr(KeyXDPAction, action))
		}
	case event.HookNone:
	}
}

// xdpReason names the drop reason of a packet that died by an XDP program before it
// had an skb; ok is false for the kernel's own reasons.
func xdpReason(value uint32) (name string, ok bool) {
	action, ok := event.XDPReason(value)
	if !ok {
		return "", false
	}
	if name = xdpAction(action); name == "" {
		name = "XDP_ABORTED"
	}
	return name, true
}

// programReason is the drop reason of a packet of which the kernel states none: the
// verdict of the BPF program that ran on it last, when that was to drop it and
// nothing else was done with the packet since; else what was stated.
func (b *Builder) programReason(e *event.End, stated string) string {
	t := &b.trace
	var last *Span
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if s.Wait || s.Frame.Skb != e.Skb || s.EnterMonoNs > e.AtMonoNs || b.names.function(s.Frame.Func).frees {
			continue
		}
		if last == nil || s.EnterMonoNs >= last.EnterMonoNs {
			last = s
		}
	}
	if last == nil || last.Incomplete || last.ExitMonoNs > e.AtMonoNs {
		return stated
	}
	value := uint32(last.Frame.Return)
	switch b.names.function(last.Frame.Func).hook {
	case event.HookTC:
		if action := tcAction(int32(value)); action == "TC_ACT_SHOT" {
			return action
		}
	case event.HookXDP:
		if action := xdpAction(value); action == "XDP_DROP" || action == "XDP_ABORTED" {
			return action
		}
	case event.HookNone:
	}
	return stated
}
