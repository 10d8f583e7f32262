package bpf

// Kin says what a function does with its skb and others, which is known when it
// returns: enum kin of modes.h.
type Kin uint8

// The kin. With KinDerives a returned list of skbs counts as a whole, up to 64.
const (
	KinNone         Kin = iota
	KinClones           // returns an skb, or a list, of the same packet
	KinDerives          // returns an skb, or a list, each a packet of its own
	KinDerivesFirst     // makes its first argument a packet of its own
	KinMergesZero       // merges its skb into its first argument when it returns an int of 0
	KinMergesTrue       // … a bool of true
	KinGathers          // the skbs of its skb's frag_list are merged into it
	KinChains           // … are chained to it (GRO's list mode), if it is marked so
)

// program is the name of the Classic program without its last digit, "" when
// there is none for that argument register.
func (k Kin) program(arg int) string {
	switch {
	case k == KinClones && arg == 0:
		return "clones_"
	case k == KinDerives && arg == 0:
		return "derives_"
	case k == KinChains && arg == 0:
		return "chains_"
	case arg != 1:
		return ""
	case k == KinDerivesFirst:
		return "derives_first_"
	case k == KinMergesZero:
		return "merges_zero_"
	case k == KinMergesTrue:
		return "merges_true_"
	case k == KinGathers:
		return "gathers_"
	}
	return ""
}
