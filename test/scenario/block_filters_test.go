//go:build vm

package scenario

import (
	"slices"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// Where the requests of TestBlockFilters are, in sectors of the whole disk.
const (
	processSector = 8 // and one more each for the cgroup and the read
	cgroupSector  = 16
	readSector    = 24
	partSector    = partStart + 32
	discardSector = 65536
	discardBytes  = 65536
)

// filterCase is one tracer, what it must not show, and what it must show.
type filterCase struct {
	name string
	args []string
	keep func(*request) bool // true of every trace
	want []outline           // on the disks of the test
	may  func(*request) bool // what keep permits without it being in want; nil: nothing
}

// TestBlockFilters expects of the same requests what each filter lets through,
// all of that and nothing else.
func TestBlockFilters(t *testing.T) {
	loadBlockModules(t)
	makeCgroup(t, writerCgroup)
	null, slow, nvme := nullDisk(t, 0, nil), scsiDisk(t), scratch(t)
	part := addPartition(t, nvme, extent{start: partStart, length: partLength})
	at := func(sector uint64) *gatedWriter {
		return gate(t, ioSize, sector*sectorSize/ioSize, null.node(), "oflag=direct")
	}
	process, member := at(processSector), at(cgroupSector)
	member.join(t, writerCgroup)

	tests := filterCases(null, slow, nvme, part, process.pid())
	sets := make([][]string, len(tests))
	for i, test := range tests {
		sets[i] = test.args
	}
	tracers := launchEach(t, sets)
	process.finish(t)
	member.finish(t)
	for d, sector := range map[disk]uint64{null: readSector, slow: delayedSector} {
		if err := readDirect(t, d.node(), sector, ioSize); err != nil {
			t.Error(err)
		}
	}
	writeDirect(t, part.node(), partSector-partStart, ioSize)
	discard(t, nvme, discardSector, discardBytes)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkFilter(t, tracers[i], test, []disk{null, slow, nvme})
		})
	}
	checkClean(t)
}

// filterCases are in the order of time.
func filterCases(null, slow, nvme, part disk, process int64) []filterCase {
	write := func(d disk, sector int64) outline { return wrote("request", d, sector, ioSize) }
	other := func(name string, d disk, sector, bytes int64) outline {
		return outline{"block " + name, string(d), "request", sector, bytes, nil}
	}
	byProcess, byMember, byPart := write(null, processSector), write(null, cgroupSector), write(nvme, partSector)
	read, slowRead := other("read", null, readSector, ioSize), other("read", slow, delayedSector, ioSize)
	return []filterCase{
		{
			"device",
			[]string{"--device", "/dev/" + string(null), "--device", string(part)},
			func(r *request) bool {
				return r.text(keyDevice) == string(null) || r.text(keyPartition) == string(part)
			},
			[]outline{byProcess, byMember, read, byPart},
			nil,
		},
		{
			"operation",
			[]string{"--op", "write,discard"},
			func(r *request) bool { return slices.Contains([]string{"write", "discard"}, r.operation()) },
			[]outline{byProcess, byMember, byPart, other("discard", nvme, discardSector, discardBytes)},
			nil,
		},
		{
			"process",
			[]string{"--pid", strconv.FormatInt(process, 10)},
			func(r *request) bool { return r.number(keyPID) == process },
			[]outline{byProcess},
			nil,
		},
		{
			"cgroup",
			[]string{"--cgroup", "/" + writerCgroup},
			func(r *request) bool { return r.text(keyCgroup) == "/"+writerCgroup },
			[]outline{byMember},
			nil,
		},
		{
			// Of two disks of ours. Where the host stops a processor, the fast one is as slow
			// once: keep says that it was.
			"latency",
			[]string{"--min-latency", "90ms", "--device", string(slow), "--device", string(null)},
			func(r *request) bool { return r.number(keyDuration) >= 90_000_000 },
			[]outline{slowRead},
			func(r *request) bool { return r.text(keyDevice) == string(null) },
		},
	}
}

func checkFilter(t *testing.T, tr *tracer, test filterCase, disks []disk) {
	o := tr.stop(t)
	checkBlockSums(t, o)
	all := readRequests(t, o.output())
	for _, r := range all {
		if !test.keep(r) {
			t.Errorf("%s does not match %q: %v", r, test.args, r.attrs)
		}
	}
	ours := pick(all, func(r *request) bool {
		return slices.Contains(disks, disk(r.text(keyDevice))) && (test.may == nil || !test.may(r))
	})
	sortOutlines := func(list []outline) []outline {
		slices.SortFunc(list, compareOutlines)
		return list
	}
	if diff := gocmp.Diff(sortOutlines(test.want), sortOutlines(outlines(ours))); diff != "" {
		t.Errorf("%q (-want +got):\n%s", test.args, diff)
	}
}

// TestBlockBadInput expects one sentence, the documented status and nothing left.
func TestBlockBadInput(t *testing.T) {
	tests := []struct {
		name string
		args []string
		exit int
		says string // part of the sentence
	}{
		{"device that does not exist", []string{"--device", "nvme77n1"}, 2, "nvme77n1"},
		{"number that is no device", []string{"--device", "511:1"}, 2, "511:1"},
		{"operation", []string{"--op", "read,wirte"}, 2, "wirte"},
		{"process that does not exist", []string{"--pid", "4194000"}, 2, "4194000"},
		{"cgroup that does not exist", []string{"--cgroup", "/no/such/cgroup"}, 2, "/no/such/cgroup"},
		{"latency", []string{"--min-latency", "soon"}, 2, "--min-latency"},
		{"key", []string{"--histogram-only", "--by", "colour"}, 2, "colour"},
		{"interval", []string{"--interval", "-1s"}, 2, "--interval"},
		{"correlation", []string{"--correlate", "guess"}, 2, "--correlate"},
		{"flag", []string{"--devcie", "nvme0n1"}, 2, "--devcie"},
		{"output", []string{"--exporter", "file", "--output", "/no/such/dir/spans"}, 2, "/no/such/dir/spans"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkRefusal(t, run(t, append([]string{"block"}, test.args...)...), test.exit, test.says)
		})
	}
	t.Run("no privilege", func(t *testing.T) { checkRefusal(t, runAs(t, nobody, "block"), 3, "root") })
	checkClean(t)
}
