package spans

import "strings"

// keyNames is indexed by Key.
var keyNames = nameKeys(conventionKeys(), packetKeys(), frameKeys(), netfilterKeys(), blockKeys(), summaryKeys())

// nameKeys joins the tables, and adds the keys of times by the names of stages and
// waits.
func nameKeys(tables ...map[Key]string) (names [keyCount]string) {
	for _, table := range tables {
		for key, name := range table {
			names[key] = name
		}
	}
	word := strings.NewReplacer("/", "_", " ", "_")
	for s := StageUnknown + 1; s < stageCount; s++ {
		names[stageKey(s)] = "otel_kprobe.stage." + word.Replace(s.String()) + ".duration_ns"
	}
	for w := WaitNone + 1; w < waitCount; w++ {
		names[waitKey(w)] = "otel_kprobe.wait." + word.Replace(w.String()) + ".duration_ns"
	}
	return names
}

// summaryKeys are about all that a span of an application caused.
func summaryKeys() map[Key]string {
	return map[Key]string{
		KeySummaryPackets:       "otel_kprobe.summary.packets",
		KeySummaryRequests:      "otel_kprobe.summary.requests",
		KeySummaryBytes:         "otel_kprobe.summary.bytes",
		KeySummaryTimeNs:        "otel_kprobe.summary.time_ns",
		KeySummaryRetransmits:   "otel_kprobe.summary.retransmits",
		KeySummaryDrops:         "otel_kprobe.summary.drops",
		KeySummaryErrors:        "otel_kprobe.summary.errors",
		KeySummarySlowestTrace:  "otel_kprobe.summary.slowest.trace_id",
		KeySummarySlowestNs:     "otel_kprobe.summary.slowest.duration_ns",
		KeySummaryLeftOut:       "otel_kprobe.summary.links_left_out",
		KeySummaryCopiesLeftOut: "otel_kprobe.summary.copies_left_out",
	}
}

// conventionKeys are those of the semantic conventions.
func conventionKeys() map[Key]string {
	return map[Key]string{
		KeySourceAddress:         "source.address",
		KeySourcePort:            "source.port",
		KeyDestinationAddress:    "destination.address",
		KeyDestinationPort:       "destination.port",
		KeyNetworkTransport:      "network.transport",
		KeyNetworkType:           "network.type",
		KeyNetworkIODirection:    "network.io.direction",
		KeyNetworkInterfaceName:  "network.interface.name",
		KeyProcessPID:            "process.pid",
		KeyThreadID:              "thread.id",
		KeyThreadName:            "thread.name",
		KeyCPULogicalNumber:      "cpu.logical_number",
		KeyCodeFunctionName:      "code.function.name",
		KeyCodeStacktrace:        "code.stacktrace",
		KeyErrorType:             "error.type",
		KeySystemDevice:          "system.device",
		KeyDiskIODirection:       "disk.io.direction",
		KeyContainerID:           "container.id",
		KeyProcessExecutablePath: "process.executable.path",
		KeyProcessExecutableName: "process.executable.name",
		KeyPodUID:                "k8s.pod.uid",
	}
}

// packetKeys are about the packet: on the root first of all.
func packetKeys() map[Key]string {
	return map[Key]string{
		KeyDirection:             "otel_kprobe.direction",
		KeyProtocol:              "otel_kprobe.protocol",
		KeyEtherType:             "otel_kprobe.ethertype",
		KeyJourney:               "otel_kprobe.journey",
		KeyInterfaces:            "otel_kprobe.interfaces",
		KeyNetNSInum:             "otel_kprobe.netns.inum",
		KeyNetNSName:             "otel_kprobe.netns.name",
		KeyNetNSNames:            "otel_kprobe.netns.names",
		KeyFrameCount:            "otel_kprobe.frame.count",
		KeyFramesLost:            "otel_kprobe.frame.lost",
		KeySkb:                   "otel_kprobe.skb.address",
		KeySkbLen:                "otel_kprobe.skb.len",
		KeySkbLenFirst:           "otel_kprobe.skb.len.first",
		KeySkbLenLast:            "otel_kprobe.skb.len.last",
		KeySkbMark:               "otel_kprobe.skb.mark",
		KeyStartUnixNs:           "otel_kprobe.start_unix_ns",
		KeyStartMonoNs:           "otel_kprobe.start_mono_ns",
		KeyTCPSeq:                "otel_kprobe.tcp.seq",
		KeyTCPAck:                "otel_kprobe.tcp.ack",
		KeyTCPFlags:              "otel_kprobe.tcp.flags",
		KeyICMPType:              "otel_kprobe.icmp.type",
		KeyICMPCode:              "otel_kprobe.icmp.code",
		KeyICMPID:                "otel_kprobe.icmp.id",
		KeyICMPSeq:               "otel_kprobe.icmp.seq",
		KeyDropReason:            "otel_kprobe.drop.reason",
		KeyDropLocation:          "otel_kprobe.drop.location",
		KeyDropCount:             "otel_kprobe.drop.count",
		KeyEnd:                   "otel_kprobe.end",
		KeyEndFunction:           "otel_kprobe.end.function",
		KeyEvicted:               "otel_kprobe.evicted",
		KeyShed:                  "otel_kprobe.shed",
		KeyTunnelProtocol:        "otel_kprobe.tunnel.protocol",
		KeyTunnelSource:          "otel_kprobe.tunnel.source.address",
		KeyTunnelSourcePort:      "otel_kprobe.tunnel.source.port",
		KeyTunnelDestination:     "otel_kprobe.tunnel.destination.address",
		KeyTunnelDestinationPort: "otel_kprobe.tunnel.destination.port",
		KeyTunnelDepth:           "otel_kprobe.tunnel.depth",
		KeyTunnelChange:          "otel_kprobe.tunnel.change",
		KeyPayload:               "otel_kprobe.payload",
		KeyPayloadSensitive:      "otel_kprobe.payload.sensitive",
		KeyLinkKind:              "otel_kprobe.link.kind",
		KeyTCPRetransmit:         "otel_kprobe.tcp.retransmit",
		KeyCgroupID:              "otel_kprobe.cgroup.id",
		KeyCgroupPath:            "otel_kprobe.cgroup.path",
		KeySocketAddress:         "otel_kprobe.socket.address",
		KeyAppTraceID:            "otel_kprobe.app.trace_id",
		KeyAppSpanID:             "otel_kprobe.app.span_id",
		KeyAppSource:             "otel_kprobe.app.source",
		KeyAppSampled:            "otel_kprobe.app.sampled",
		KeyAppLeftOut:            "otel_kprobe.app.left_out",
	}
}

// frameKeys are about one frame, one wait, or any span.
func frameKeys() map[Key]string {
	return map[Key]string{
		KeyDurationNs:  "otel_kprobe.duration_ns",
		KeyOffsetNs:    "otel_kprobe.offset_ns",
		KeyIncomplete:  "otel_kprobe.incomplete",
		KeyEntryOnly:   "otel_kprobe.entry_only",
		KeyModule:      "otel_kprobe.module",
		KeyStage:       "otel_kprobe.stage",
		KeyReturn:      "otel_kprobe.return",
		KeyProgramID:   "otel_kprobe.bpf.program.id",
		KeyProgramName: "otel_kprobe.bpf.program.name",
		KeyTCAction:    "otel_kprobe.tc.action",
		KeyXDPAction:   "otel_kprobe.xdp.action",
		KeyResult:      "otel_kprobe.result",
		KeyWait:        "otel_kprobe.wait",
		KeyDescription: "otel_kprobe.description",
		KeyNoSkb:       "otel_kprobe.no_skb",
		KeyCaller:      "otel_kprobe.caller",
		KeySkbFields:   "otel_kprobe.skb.fields",
	}
}

// netfilterKeys are about packet filters, conntrack and address translation.
func netfilterKeys() map[Key]string {
	return map[Key]string{
		KeyNetfilterFamily:              "otel_kprobe.netfilter.family",
		KeyNetfilterTable:               "otel_kprobe.netfilter.table",
		KeyNetfilterChain:               "otel_kprobe.netfilter.chain",
		KeyNetfilterRule:                "otel_kprobe.netfilter.rule",
		KeyNetfilterHook:                "otel_kprobe.netfilter.hook",
		KeyConntrackState:               "otel_kprobe.conntrack.state",
		KeyConntrackDirection:           "otel_kprobe.conntrack.direction",
		KeyConntrackStatus:              "otel_kprobe.conntrack.status",
		KeyConntrackTCPState:            "otel_kprobe.conntrack.tcp.state",
		KeyConntrackMark:                "otel_kprobe.conntrack.mark",
		KeyConntrackZone:                "otel_kprobe.conntrack.zone",
		KeyConntrackOriginalSource:      "otel_kprobe.conntrack.original.source",
		KeyConntrackOriginalDestination: "otel_kprobe.conntrack.original.destination",
		KeyConntrackReplySource:         "otel_kprobe.conntrack.reply.source",
		KeyConntrackReplyDestination:    "otel_kprobe.conntrack.reply.destination",
		KeyNATSource:                    "otel_kprobe.nat.source",
		KeyNATDestination:               "otel_kprobe.nat.destination",
	}
}

// blockKeys are about block requests.
func blockKeys() map[Key]string {
	return map[Key]string{
		KeyBlockPartition:           "otel_kprobe.block.partition",
		KeyBlockOperation:           "otel_kprobe.block.operation",
		KeyBlockFlags:               "otel_kprobe.block.flags",
		KeyBlockSector:              "otel_kprobe.block.sector",
		KeyBlockBytes:               "otel_kprobe.block.bytes",
		KeyBlockBytesDone:           "otel_kprobe.block.bytes.done",
		KeyBlockPriority:            "otel_kprobe.block.priority",
		KeyBlockStatus:              "otel_kprobe.block.status",
		KeyBlockLevel:               "otel_kprobe.block.level",
		KeyBlockBios:                "otel_kprobe.block.bios",
		KeyBlockMergesLeftOut:       "otel_kprobe.block.merges.left_out",
		KeyBlockRequeues:            "otel_kprobe.block.requeues",
		KeyBlockRequeuesLeftOut:     "otel_kprobe.block.requeues.left_out",
		KeyBlockWriteback:           "otel_kprobe.block.writeback",
		KeyBlockAddress:             "otel_kprobe.block.address",
		KeyBlockID:                  "otel_kprobe.block.id",
		KeyBlockQueueDurationNs:     "otel_kprobe.block.queue.duration_ns",
		KeyBlockSchedulerDurationNs: "otel_kprobe.block.scheduler.duration_ns",
	}
}
