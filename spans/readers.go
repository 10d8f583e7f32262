package spans

// reads says whether a function copies a packet's data to the program that reads
// from a socket, or has it just copied: the copy of a UDP datagram without fragments
// is inlined into udp_recvmsg, and skb_consume_udp follows it. It runs in that
// program's thread.
func reads(name string) bool {
	switch name {
	case "skb_copy_datagram_iter", "skb_copy_and_csum_datagram_msg", "skb_copy_and_hash_datagram_iter",
		"skb_consume_udp":
		return true
	}
	return false
}

// queues says whether a function of Linux 5.10 to 7.3 puts a packet into the queue of
// a socket that is no tap. tcp_data_queue does not always, and is no such function.
func queues(name string) bool {
	switch name {
	case "tcp_queue_rcv", "__udp_enqueue_schedule_skb",
		"sock_queue_rcv_skb", "sock_queue_rcv_skb_reason", "__sock_queue_rcv_skb":
		return true
	}
	return false
}

// noteReader remembers the first span in which a thread that is known reads.
func (b *Builder) noteReader(index int, fn *function) {
	if !fn.reads || b.reader != 0 {
		return
	}
	s := &b.trace.Spans[index]
	if f := b.trace.FactsOf(s); f != nil && f.TGID != 0 && f.TID == s.Frame.TID {
		b.reader = int32(index)
	}
}

// readEvent puts the reading on the root, as an event.
func (b *Builder) readEvent() {
	if b.reader == 0 {
		return
	}
	t := &b.trace
	s := &t.Spans[b.reader]
	from := len(b.attrs)
	b.processAttrs(t.FactsOf(s))
	b.add(IntAttr(KeyOffsetNs, int64(s.EnterMonoNs-t.EnterMonoNs)))
	b.events = append(b.events, SpanEvent{Name: "read", UnixNs: s.StartUnixNs, Attrs: b.cut(from)})
}
