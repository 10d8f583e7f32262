//go:build vm

package scenario

import (
	"os"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// Sizes and places of the writes to stacked devices.
const (
	stackBytes    = 65536
	stackSectors  = stackBytes / sectorSize
	linearLower   = 2048             // where the first part of dm-linear begins
	linearSectors = 8 * stackSectors // of each part
)

func (run *ioRun) loop(t *testing.T) {
	dir := makeFS(t, run.scratch, "-O", "^has_journal")
	file := dir + "/image"
	// Blocks that exist: a write to a hole would change the file system as well.
	must(t, "dd", "if=/dev/zero", "of="+file, "bs=1M", "count=4", "conv=fsync", "status=none")
	run.fileAt = sectorOf(t, file)
	d := loopDisk(t, file)
	writeDirect(t, d.node(), stackSectors, stackBytes)
}

// linear writes across the seam of two disks, and before it. A device is asked for
// its name when its request is seen, so it must still be there then.
func (run *ioRun) linear(t *testing.T) {
	second := nullDisk(t, 0, nil)
	d := linearDisk(t, "seam", extent{run.scratch, linearLower, linearSectors}, extent{second, 0, linearSectors})
	writeDirect(t, d.node(), linearSectors-stackSectors/2, stackBytes)
	writeDirect(t, d.node(), 0, stackBytes)
	time.Sleep(settle)
}

// raid writes to a mirror, and across two chunks of a stripe. It waits as linear.
func (run *ioRun) raid(t *testing.T) {
	a, b := nullDisk(t, 0, nil), nullDisk(t, 1, nil)
	t.Run("mirror", func(t *testing.T) {
		writeDirect(t, raidDisk(t, 7, 1, a, b).node(), 2*stackSectors, stackBytes)
		time.Sleep(settle)
	})
	t.Run("stripe", func(t *testing.T) {
		writeDirect(t, raidDisk(t, 8, 0, a, b).node(), 0, 2*raidChunk)
		time.Sleep(settle)
	})
}

func (run *ioRun) zram(t *testing.T) {
	writeDirect(t, zramDisk(t).node(), 2*stackSectors, ioSize)
}

// wrote is the outline of a write.
func wrote(level string, d disk, sector, bytes int64, children ...outline) outline {
	return outline{"block write", string(d), level, sector, bytes, children}
}

// checkStacks expects one trace for each write: what was written to on top,
// and what that became on the disks below.
func checkStacks(t *testing.T, run *ioRun) {
	s, self := run.scratch, int64(os.Getpid())
	tests := []struct {
		phase string
		top   disk
		want  []outline
	}{
		{"loop", "loop0", []outline{
			wrote("request", "loop0", stackSectors, stackBytes,
				wrote("request", s, int64(run.fileAt)+stackSectors, stackBytes)),
		}},
		{"linear", "dm-0", []outline{
			wrote("bio", "dm-0", linearSectors-stackSectors/2, stackBytes,
				wrote("request", "nullb0", 0, stackBytes/2),
				wrote("request", s, linearLower+linearSectors-stackSectors/2, stackBytes/2)),
			wrote("bio", "dm-0", 0, stackBytes,
				wrote("request", s, linearLower, stackBytes)),
		}},
		{"raid", "md7", []outline{
			wrote("bio", "md7", 2*stackSectors, stackBytes,
				wrote("request", "nullb0", 2*stackSectors, stackBytes),
				wrote("request", "nullb1", 2*stackSectors, stackBytes)),
		}},
		{"raid", "md8", []outline{
			wrote("bio", "md8", 0, 2*raidChunk,
				wrote("request", "nullb0", 0, raidChunk),
				wrote("request", "nullb1", 0, raidChunk)),
		}},
		{"zram", "zram0", []outline{
			wrote("bio", "zram0", 2*stackSectors, ioSize),
		}},
	}
	for _, test := range tests {
		t.Run(string(test.top), func(t *testing.T) {
			got := operations(on(run.in(test.phase), test.top), "write")
			if diff := gocmp.Diff(test.want, outlines(got)); diff != "" {
				t.Errorf("traces of writes (-want +got):\n%s", diff)
			}
			for _, r := range flat(got) {
				if r.text(keyThreadName) == "" || r.number(keyPID) != self {
					t.Errorf("%s was submitted by %d (%s), want process %d", r, r.number(keyPID), r.text(keyThreadName), self)
				}
			}
		})
	}
}
