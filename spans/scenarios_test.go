package spans

import "github.com/otel-kprobe/otel-kprobe/internal/event"

func echoRequest(f *event.Facts) {
	f.Flags = event.FactsStart | event.FactsTuple | event.FactsICMP
	f.Family, f.Protocol, f.EtherType = 4, 1, 0x0800
	f.Source, f.Destination = ipv4(10, 9, 0, 1), ipv4(10, 9, 0, 2)
	f.ICMPType, f.ICMPID, f.ICMPSeq = 8, 77, 1
	f.TGID, f.TID, f.Comm = 4711, 4711, fixed("ping")
	f.NetNS, f.Ifindex, f.Interface, f.MTU = 4026532200, 2, fixed("veth0"), 1500
}

func tcpSegment(f *event.Facts) {
	f.Flags = event.FactsStart | event.FactsTuple | event.FactsPorts
	f.Family, f.Protocol, f.EtherType = 4, 6, 0x0800
	f.Source, f.Destination = ipv4(192, 0, 2, 7), ipv4(10, 0, 0, 1)
	f.SourcePort, f.DestinationPort = 40000, 443
	f.TCPSeq, f.TCPAck, f.TCPFlags = 1000, 0, 2
	f.TGID, f.TID, f.Comm = 900, 901, fixed("bystander")
	f.NetNS, f.Ifindex, f.Interface, f.MTU = 4026531840, 3, fixed("eth0"), 1500
}

// pingVeth is an echo request that leaves by one end of a veth pair and is
// received from the other by a soft interrupt on the same CPU.
func pingVeth(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 7)
	j.addFacts(echoRequest)
	j.in("ip_send_skb", 0, func() {
		j.in("ip_local_out", 0, func() { j.in("nf_hook_slow", 1, nil) })
		j.in("ip_output", 0, func() {
			j.in("ip_finish_output2", 0, func() {
				j.len = 98
				j.in("__dev_queue_xmit", 0, func() {
					j.in("dev_hard_start_xmit", 0, func() {
						j.in("veth:veth_xmit", 0, func() { j.in("skb_clone_tx_timestamp", 0, nil) })
					})
					j.onSoftStack(func() { receivePing(j) })
				})
			})
		})
	})
	j.end(event.EndConsumed, 0, 0)
	return j
}

func receivePing(j *testJourney) {
	j.addFacts(func(f *event.Facts) {
		f.Flags &^= event.FactsStart
		f.NetNS, f.Ifindex, f.Interface = 4026531840, 9, fixed("veth1")
	})
	j.len = 84
	j.in("__netif_receive_skb", 0, func() {
		j.in("ip_rcv", 0, func() { j.in("icmp_rcv", 0, func() { j.in("consume_skb", 0, nil) }) })
	})
}

// tcpDrop is a received segment that nf_hook_slow drops.
func tcpDrop(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 8)
	j.stack, j.tid, j.cpu, j.len = softStack+0x3f00, 901, 0, 60
	j.addFacts(tcpSegment)
	j.in("napi_gro_receive", 4, func() {
		j.in("ip_rcv", 1, func() {
			j.in("ip_local_deliver", 1, func() {
				j.in("nf_hook_slow", uint64(uint32(0xffffffff)), func() {
					j.in("sk_skb_reason_drop", 0, func() {
						j.end(event.EndDropped, 8, k.fn("nf_hook_slow")+0x43)
					})
				})
			})
		})
	})
	return j
}

// forward is a UDP datagram that is received, given a new source and sent on.
func forward(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 9)
	j.stack, j.tid, j.cpu = softStack+0x3f00, 0, 2
	j.addFacts(tcpSegment)
	j.Facts[0].Protocol, j.Facts[0].Flags = 17, event.FactsStart|event.FactsTuple|event.FactsPorts
	j.in("__netif_receive_skb_core", 0, func() {
		j.in("ip_rcv", 0, func() {
			j.in("ip_forward", 0, func() {
				j.mark = 0x10
				j.in("ip_output", 0, func() {
					j.addFacts(func(f *event.Facts) {
						f.Source, f.SourcePort = ipv4(203, 0, 113, 9), 61000
						f.Ifindex, f.Interface = 4, fixed("eth1")
					})
					j.in("__dev_queue_xmit", 0, func() { j.in("virtio_net:start_xmit", 0, nil) })
				})
			})
		})
	})
	j.end(event.EndConsumed, 0, 0)
	return j
}

// unfinished is a packet still on its way when the program ended; one frame's
// return never came.
func unfinished(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 10)
	j.addFacts(echoRequest)
	j.in("ip_send_skb", 0, func() {
		j.in("ip_output", 0, func() { j.in("__dev_queue_xmit", 0, nil) })
	})
	for i := range j.Frames {
		if j.Frames[i].Func == k.fn("ip_output") {
			j.Frames[i].ExitMonoNs = 0
		}
	}
	j.Unfinished = true
	return j
}

// lost is a journey of whose frames half are missing, with the facts too.
func lost(k *fakeKernel) *testJourney {
	j := pingVeth(k)
	kept := j.Frames[:0]
	for i, f := range j.Frames {
		if i%2 == 1 {
			kept = append(kept, f)
		}
	}
	j.ID, j.LostFrames, j.Evicted = 11, uint32(len(j.Frames)-len(kept)), true
	j.Frames, j.Facts = kept, j.Facts[:1]
	return j
}

// entryOnly is what --entry-only reports of a ping.
func entryOnly(k *fakeKernel) *testJourney {
	j := pingVeth(k)
	j.ID = 12
	for i := range j.Frames {
		f := &j.Frames[i]
		f.ExitMonoNs, f.Return, f.Flags = f.EnterMonoNs, 0, event.FrameEntryOnly
	}
	return j
}

// empty is a journey of which nothing but the end came.
func empty(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 13)
	j.end(event.EndEvicted, 0, 0)
	j.LostFrames, j.Incomplete = 4, true
	return j
}
