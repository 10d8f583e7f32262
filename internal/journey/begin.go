package journey

// StartMonoNs is when the journey was first seen: at its first facts, or, when
// those were lost, at the entry of the earliest frame that came; 0 without either.
func (j *Journey) StartMonoNs() uint64 {
	start := uint64(0)
	if len(j.Facts) > 0 {
		start = j.Facts[0].AtMonoNs
	}
	for i := range j.Frames {
		if enter := j.Frames[i].EnterMonoNs; start == 0 || enter < start {
			start = enter
		}
	}
	return start
}

// SettledBefore says whether the ring has been read up to monoNs and every journey
// that began before has been emitted.
func (t *Tracker) SettledBefore(monoNs uint64) bool {
	if t.nowMonoNs < monoNs {
		return false
	}
	for _, l := range []*list{&t.running, &t.waiting} {
		for o := l.front; o != nil; o = o.next {
			if o.StartMonoNs() < monoNs {
				return false
			}
		}
	}
	return true
}
