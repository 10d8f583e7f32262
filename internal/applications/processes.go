package applications

import (
	"cmp"
	"os"
	"slices"
	"strconv"
)

// youngLooks is how often a process is looked at before it waits its turn: first it
// may still run the program of its parent, or a shell that is about to run another.
const youngLooks = 3

// processes decides which of the processes are looked at in a scan.
type processes struct {
	known map[int]*process
}

// process is one that was there in the last scan.
type process struct {
	looks     uint64 // how often it was looked at
	waitsFrom uint64 // the scan in which it was last, or the one before it came
	refused   bool   // it may not be looked at, and was counted
}

// next takes over which processes there are in a scan, and chooses up to limit: young
// ones, at most half of them where others wait longer, and those that wait longest.
func (p *processes) next(pids []int, scan uint64, limit int) []int {
	old := p.known
	p.known = make(map[int]*process, len(pids))
	var young, others []int
	for _, pid := range pids {
		known := old[pid]
		if known == nil {
			known = &process{waitsFrom: scan - 1}
		}
		p.known[pid] = known
		if known.looks < youngLooks {
			young = append(young, pid)
		} else {
			others = append(others, pid)
		}
	}
	longest := func(a, b int) int { return cmp.Compare(p.known[a].waitsFrom, p.known[b].waitsFrom) }
	slices.SortStableFunc(young, longest)
	half := min(len(young), limit/2)
	others = append(others, young[half:]...)
	slices.SortStableFunc(others, longest)
	return slices.Concat(young[:half], others[:min(len(others), limit-half)])
}

// waiting is the number of processes that were not looked at yet.
func (p *processes) waiting() int {
	n := 0
	for _, known := range p.known {
		if known.looks == 0 {
			n++
		}
	}
	return n
}

// listProcesses gives the numbers of the processes that proc shows.
func listProcesses(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
