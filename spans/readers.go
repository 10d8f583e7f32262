package spans

// reads says whether a function copies a packet's data to the program that reads
// from a socket. It runs in that program's thread.
func reads(name string) bool {
	switch name {
	case "skb_copy_datagram_iter", "skb_copy_and_csum_datagram_msg", "skb_copy_and_hash_datagram_iter":
		return true
	}
	return false
}

// firstReader is the index of the span in which the packet was first read, 0 when
// it was not, or by a thread that is not known.
func (b *Builder) firstReader() int32 {
	t := &b.trace
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if s.Wait || !b.names.function(s.Frame.Func).reads {
			continue
		}
		if f := t.FactsOf(s); f != nil && f.TGID != 0 && f.TID == s.Frame.TID {
			return int32(i)
		}
	}
	return 0
}

// readEvent puts the reading on the root, as an event.
func (b *Builder) readEvent(at int32) {
	b.events = b.events[:0]
	if at == 0 {
		return
	}
	t := &b.trace
	s := &t.Spans[at]
	from := len(b.attrs)
	b.processAttrs(t.FactsOf(s))
	b.add(IntAttr(KeyOffsetNs, int64(s.EnterMonoNs-t.EnterMonoNs)))
	b.events = append(b.events, SpanEvent{Name: "read", UnixNs: s.StartUnixNs, Attrs: b.cut(from)})
	t.Spans[0].Events = b.events
}
