package spans

// Stage is the layer of the path that a function belongs to.
type Stage uint8

// The stages, from the application down to the wire and up again.
const (
	StageUnknown Stage = iota
	StageSocket
	StageTCP
	StageUDP
	StageICMP
	StageIP
	StageNetfilter
	StageRouting
	StageNeighbour
	StageQdisc
	StageDevice
	StageDriver
	StageXDPTC
	StageReceive
	stageCount
)

// stageNames is indexed by Stage.
var stageNames = [stageCount]string{
	"", "socket", "tcp", "udp", "icmp", "ip", "netfilter", "routing",
	"neighbour", "qdisc", "device", "driver", "xdp/tc", "receive",
}

// String returns the stage's word in the glossary, "" for StageUnknown.
func (s Stage) String() string {
	if s >= stageCount {
		return ""
	}
	return stageNames[s]
}
