package spans

// Key is an attribute key. The table is closed: each key is documented in
// docs/spans.md, and a test holds the two together.
type Key uint8

// Attribute keys of the OpenTelemetry semantic conventions v1.43.0.
const (
	KeySourceAddress Key = iota + 1
	KeySourcePort
	KeyDestinationAddress
	KeyDestinationPort
	KeyNetworkTransport
	KeyNetworkType
	KeyNetworkIODirection
	KeyNetworkInterfaceName
	KeyProcessPID
	KeyThreadID
	KeyThreadName
	KeyCPULogicalNumber
	KeyCodeFunctionName
	KeyCodeStacktrace
	KeyErrorType
	KeySystemDevice
	KeyDiskIODirection
	KeyContainerID
	KeyProcessExecutablePath
	KeyProcessExecutableName
	KeyPodUID

	// Keys of our own.

	KeyDirection
	KeyProtocol
	KeyEtherType
	KeyJourney
	KeyInterfaces
	KeyNetNSInum
	KeyNetNSName
	KeyNetNSNames
	KeyFrameCount
	KeyFramesLost
	KeySkb
	KeySkbLen
	KeySkbLenFirst
	KeySkbLenLast
	KeySkbMark
	KeyDurationNs
	KeyOffsetNs
	KeyStartUnixNs
	KeyStartMonoNs
	KeyTCPSeq
	KeyTCPAck
	KeyTCPFlags
	KeyICMPType
	KeyICMPCode
	KeyICMPID
	KeyICMPSeq
	KeyTunnelProtocol
	KeyTunnelSource
	KeyTunnelSourcePort
	KeyTunnelDestination
	KeyTunnelDestinationPort
	KeyTunnelDepth
	KeyTunnelChange
	KeyDropReason
	KeyDropLocation
	KeyDropCount
	KeyEnd
	KeyIncomplete
	KeyEntryOnly
	KeyEvicted
	KeyModule
	KeyStage
	KeyReturn
	KeyProgramID
	KeyProgramName
	KeyTCAction
	KeyXDPAction
	KeyResult
	KeyNetfilterFamily
	KeyNetfilterTable
	KeyNetfilterChain
	KeyNetfilterRule
	KeyNetfilterHook
	KeyConntrackState
	KeyConntrackDirection
	KeyConntrackStatus
	KeyConntrackTCPState
	KeyConntrackMark
	KeyConntrackZone
	KeyConntrackOriginalSource
	KeyConntrackOriginalDestination
	KeyConntrackReplySource
	KeyConntrackReplyDestination
	KeyNATSource
	KeyNATDestination
	KeyBlockPartition
	KeyBlockOperation
	KeyBlockFlags
	KeyBlockSector
	KeyBlockBytes
	KeyBlockBytesDone
	KeyBlockPriority
	KeyBlockStatus
	KeyBlockLevel
	KeyBlockBios
	KeyBlockMergesLeftOut
	KeyBlockRequeues
	KeyBlockRequeuesLeftOut
	KeyBlockWriteback
	KeyBlockAddress
	KeyBlockID
	KeyBlockQueueDurationNs
	KeyBlockSchedulerDurationNs
	KeyCgroupID
	KeyCgroupPath
	KeySocketAddress
	KeyWait
	KeyDescription
	KeyCaller
	KeySkbFields
	KeyPayload
	KeyPayloadSensitive
	KeyNoSkb
	KeyLinkKind
	KeyTCPRetransmit
	KeyStageDurations                                           // the first of one key per stage, see stageKey
	KeyWaitDurations  = KeyStageDurations + Key(stageCount) - 1 // the first of one key per wait, see waitKey
	keyCount          = KeyWaitDurations + Key(waitCount) - 1
)

// stageKey is the key of a root's time in one stage, which must not be
// StageUnknown.
func stageKey(s Stage) Key { return KeyStageDurations + Key(s) - 1 }

// waitKey is the key of a root's time in one wait, which must not be WaitNone.
func waitKey(w Wait) Key { return KeyWaitDurations + Key(w) - 1 }

// keyNames is indexed by Key.
var keyNames = [keyCount]string{
	KeySourceAddress:        "source.address",
	KeySourcePort:           "source.port",
	KeyDestinationAddress:   "destination.address",
	KeyDestinationPort:      "destination.port",
	KeyNetworkTransport:     "network.transport",
	KeyNetworkType:          "network.type",
	KeyNetworkIODirection:   "network.io.direction",
	KeyNetworkInterfaceName: "network.interface.name",
	KeyProcessPID:           "process.pid",
	KeyThreadID:             "thread.id",
	KeyThreadName:           "thread.name",
	KeyCPULogicalNumber:     "cpu.logical_number",
	KeyCodeFunctionName:     "code.function.name",
	KeyCodeStacktrace:       "code.stacktrace",
	KeyErrorType:            "error.type",
	KeySystemDevice:         "system.device",
	KeyDiskIODirection:      "disk.io.direction",
	KeyContainerID:          "container.id",

	KeyProcessExecutablePath: "process.executable.path",
	KeyProcessExecutableName: "process.executable.name",
	KeyPodUID:                "k8s.pod.uid",

	KeyDirection:    "otel_kprobe.direction",
	KeyProtocol:     "otel_kprobe.protocol",
	KeyEtherType:    "otel_kprobe.ethertype",
	KeyJourney:      "otel_kprobe.journey",
	KeyInterfaces:   "otel_kprobe.interfaces",
	KeyNetNSInum:    "otel_kprobe.netns.inum",
	KeyNetNSName:    "otel_kprobe.netns.name",
	KeyNetNSNames:   "otel_kprobe.netns.names",
	KeyFrameCount:   "otel_kprobe.frame.count",
	KeyFramesLost:   "otel_kprobe.frame.lost",
	KeySkb:          "otel_kprobe.skb.address",
	KeySkbLen:       "otel_kprobe.skb.len",
	KeySkbLenFirst:  "otel_kprobe.skb.len.first",
	KeySkbLenLast:   "otel_kprobe.skb.len.last",
	KeySkbMark:      "otel_kprobe.skb.mark",
	KeyDurationNs:   "otel_kprobe.duration_ns",
	KeyOffsetNs:     "otel_kprobe.offset_ns",
	KeyStartUnixNs:  "otel_kprobe.start_unix_ns",
	KeyStartMonoNs:  "otel_kprobe.start_mono_ns",
	KeyTCPSeq:       "otel_kprobe.tcp.seq",
	KeyTCPAck:       "otel_kprobe.tcp.ack",
	KeyTCPFlags:     "otel_kprobe.tcp.flags",
	KeyICMPType:     "otel_kprobe.icmp.type",
	KeyICMPCode:     "otel_kprobe.icmp.code",
	KeyICMPID:       "otel_kprobe.icmp.id",
	KeyICMPSeq:      "otel_kprobe.icmp.seq",
	KeyDropReason:   "otel_kprobe.drop.reason",
	KeyDropLocation: "otel_kprobe.drop.location",
	KeyDropCount:    "otel_kprobe.drop.count",
	KeyEnd:          "otel_kprobe.end",
	KeyIncomplete:   "otel_kprobe.incomplete",
	KeyEntryOnly:    "otel_kprobe.entry_only",
	KeyEvicted:      "otel_kprobe.evicted",
	KeyModule:       "otel_kprobe.module",
	KeyStage:        "otel_kprobe.stage",
	KeyReturn:       "otel_kprobe.return",
	KeyProgramID:    "otel_kprobe.bpf.program.id",
	KeyProgramName:  "otel_kprobe.bpf.program.name",
	KeyTCAction:     "otel_kprobe.tc.action",
	KeyXDPAction:    "otel_kprobe.xdp.action",
	KeyResult:       "otel_kprobe.result",
	KeyWait:         "otel_kprobe.wait",
	KeyDescription:  "otel_kprobe.description",
	KeyNoSkb:        "otel_kprobe.no_skb",

	KeyTunnelProtocol:        "otel_kprobe.tunnel.protocol",
	KeyTunnelSource:          "otel_kprobe.tunnel.source.address",
	KeyTunnelSourcePort:      "otel_kprobe.tunnel.source.port",
	KeyTunnelDestination:     "otel_kprobe.tunnel.destination.address",
	KeyTunnelDestinationPort: "otel_kprobe.tunnel.destination.port",
	KeyTunnelDepth:           "otel_kprobe.tunnel.depth",
	KeyTunnelChange:          "otel_kprobe.tunnel.change",
	KeyCaller:                "otel_kprobe.caller",
	KeySkbFields:             "otel_kprobe.skb.fields",
	KeyPayload:               "otel_kprobe.payload",
	KeyPayloadSensitive:      "otel_kprobe.payload.sensitive",

	KeyLinkKind:      "otel_kprobe.link.kind",
	KeyTCPRetransmit: "otel_kprobe.tcp.retransmit",

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
	KeyCgroupID:                 "otel_kprobe.cgroup.id",
	KeyCgroupPath:               "otel_kprobe.cgroup.path",
	KeySocketAddress:            "otel_kprobe.socket.address",

	KeyStageDurations + Key(StageSocket) - 1:    "otel_kprobe.stage.socket.duration_ns",
	KeyStageDurations + Key(StageTCP) - 1:       "otel_kprobe.stage.tcp.duration_ns",
	KeyStageDurations + Key(StageUDP) - 1:       "otel_kprobe.stage.udp.duration_ns",
	KeyStageDurations + Key(StageICMP) - 1:      "otel_kprobe.stage.icmp.duration_ns",
	KeyStageDurations + Key(StageIP) - 1:        "otel_kprobe.stage.ip.duration_ns",
	KeyStageDurations + Key(StageNetfilter) - 1: "otel_kprobe.stage.netfilter.duration_ns",
	KeyStageDurations + Key(StageRouting) - 1:   "otel_kprobe.stage.routing.duration_ns",
	KeyStageDurations + Key(StageNeighbour) - 1: "otel_kprobe.stage.neighbour.duration_ns",
	KeyStageDurations + Key(StageQdisc) - 1:     "otel_kprobe.stage.qdisc.duration_ns",
	KeyStageDurations + Key(StageDevice) - 1:    "otel_kprobe.stage.device.duration_ns",
	KeyStageDurations + Key(StageDriver) - 1:    "otel_kprobe.stage.driver.duration_ns",
	KeyStageDurations + Key(StageXDPTC) - 1:     "otel_kprobe.stage.xdp_tc.duration_ns",
	KeyStageDurations + Key(StageReceive) - 1:   "otel_kprobe.stage.receive.duration_ns",

	KeyWaitDurations + Key(WaitQdisc) - 1:      "otel_kprobe.wait.qdisc.duration_ns",
	KeyWaitDurations + Key(WaitNeighbour) - 1:  "otel_kprobe.wait.neighbour.duration_ns",
	KeyWaitDurations + Key(WaitGRO) - 1:        "otel_kprobe.wait.gro.duration_ns",
	KeyWaitDurations + Key(WaitBacklog) - 1:    "otel_kprobe.wait.backlog.duration_ns",
	KeyWaitDurations + Key(WaitReassembly) - 1: "otel_kprobe.wait.reassembly.duration_ns",
	KeyWaitDurations + Key(WaitSocketLock) - 1: "otel_kprobe.wait.socket_lock.duration_ns",
	KeyWaitDurations + Key(WaitReordering) - 1: "otel_kprobe.wait.reordering.duration_ns",
	KeyWaitDurations + Key(WaitSocket) - 1:     "otel_kprobe.wait.socket.duration_ns",
}

// String returns the key as it is sent, "" for a number outside the table.
func (k Key) String() string {
	if k >= keyCount {
		return ""
	}
	return keyNames[k]
}

// Keys returns every key that a span can carry, in the order of the table.
func Keys() []string { return append([]string(nil), keyNames[1:]...) }
