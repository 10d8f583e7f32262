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
	KeyEndFunction
	KeyIncomplete
	KeyEntryOnly
	KeyEvicted
	KeyShed
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
	KeyAppTraceID
	KeyAppSpanID
	KeyAppSource
	KeyAppSampled
	KeySummaryPackets
	KeySummaryRequests
	KeySummaryBytes
	KeySummaryTimeNs
	KeySummaryRetransmits
	KeySummaryDrops
	KeySummaryErrors
	KeySummarySlowestTrace
	KeySummarySlowestNs
	KeySummaryLeftOut
	KeySummaryCopiesLeftOut
	KeyAppLeftOut
	KeyStageDurations                                           // the first of one key per stage, see stageKey
	KeyWaitDurations  = KeyStageDurations + Key(stageCount) - 1 // the first of one key per wait, see waitKey
	keyCount          = KeyWaitDurations + Key(waitCount) - 1
)

// stageKey is the key of a root's time in one stage, which must not be
// StageUnknown.
func stageKey(s Stage) Key { return KeyStageDurations + Key(s) - 1 }

// waitKey is the key of a root's time in one wait, which must not be WaitNone.
func waitKey(w Wait) Key { return KeyWaitDurations + Key(w) - 1 }

// String returns the key as it is sent, "" for a number outside the table.
func (k Key) String() string {
	if k >= keyCount {
		return ""
	}
	return keyNames[k]
}

// Keys returns every key that a span can carry, in the order of the table.
func Keys() []string { return append([]string(nil), keyNames[1:]...) }
