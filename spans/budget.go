package spans

// WireTracesPerSecond bounds what strangers can have kept: whoever can send a packet can
// name a span in it. Enough for each request of a busy service to be looked at, and
// little beside what all of its packets cost.
const WireTracesPerSecond = 100

const nsPerSecond = 1_000_000_000

// Budget permits so many things a second, by the time of the things themselves, so that
// a recording is judged as it was live. What was not used for a second is gone.
type Budget struct {
	costNs   uint64 // of one of them
	savedNs  uint64
	atMonoNs uint64 // CLOCK_MONOTONIC of the latest
}

// NewBudget makes a Budget that permits so many things, at least one, a second.
func NewBudget(perSecond uint64) Budget { return Budget{costNs: nsPerSecond / perSecond} }

// Take says whether one more is permitted at a CLOCK_MONOTONIC time. Times that go
// backwards give nothing.
func (b *Budget) Take(monoNs uint64) bool {
	if monoNs > b.atMonoNs {
		b.savedNs = min(b.savedNs+min(monoNs-b.atMonoNs, nsPerSecond), nsPerSecond)
		b.atMonoNs = monoNs
	}
	if b.savedNs < b.costNs {
		return false
	}
	b.savedNs -= b.costNs
	return true
}
