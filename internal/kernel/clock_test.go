package kernel

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// steppedClock is a pair of clocks of which one can be set. Reading takes
// time, now and then a lot.
type steppedClock struct {
	monoNs, aheadNs int64
	reads           int
}

func (c *steppedClock) tick() {
	c.reads++
	c.monoNs += 20
	if c.reads%7 == 0 {
		c.monoNs += 50_000 // preempted
	}
}

func (c *steppedClock) MonoNs() int64 { c.tick(); return c.monoNs }
func (c *steppedClock) RealNs() int64 { c.tick(); return c.monoNs + c.aheadNs }

const (
	epoch = int64(1_700_000_000_000_000_000)
	hour  = int64(3600 * 1e9)
)

// near checks to within half a bracket of steppedClock.
func near(t *testing.T, what string, got, want int64) {
	t.Helper()
	if d := got - want; d > 20 || d < -20 {
		t.Errorf("%s = %d, want %d", what, got, want)
	}
}

func TestClockSteps(t *testing.T) {
	source := &steppedClock{monoNs: 5_000_000_000, aheadNs: epoch}
	c := newClock(source, 0)
	before := c.MonoNs()

	source.monoNs += 10 * hour // slewing moves both clocks: no step
	c.Sample()
	if n := len(c.History()); n != 1 {
		t.Fatalf("%d offsets without a step", n)
	}

	source.aheadNs += hour
	c.Sample()
	between := c.MonoNs()
	source.monoNs += hour
	source.aheadNs -= 2 * hour
	c.Sample()
	after := c.MonoNs()

	near(t, "offset before the steps", c.OffsetNs(before), epoch)
	near(t, "offset after the first", c.OffsetNs(between), epoch+hour)
	near(t, "offset after the second", c.OffsetNs(after), epoch-hour)
	near(t, "offset of an event older than the program", c.OffsetNs(0), epoch)

	replay := ReplayClock(c.History())
	for _, at := range []uint64{0, before, between, after} {
		if got, want := replay.OffsetNs(at), c.OffsetNs(at); got != want {
			t.Errorf("replayed offset at %d = %d, want %d", at, got, want)
		}
	}
}

func TestClockTimeNamespace(t *testing.T) {
	source := &steppedClock{monoNs: 100 * hour, aheadNs: epoch}
	c := newClock(source, 99*hour)
	near(t, "kernel's clock", int64(c.MonoNs()), source.monoNs-99*hour)
	near(t, "offset", c.OffsetNs(c.MonoNs()), epoch+99*hour)
}

func TestClockOnChange(t *testing.T) {
	source := &steppedClock{monoNs: 1, aheadNs: epoch}
	c := newClock(source, 0)
	var got []ClockOffset
	c.OnChange(func(from uint64, offset int64) { got = append(got, ClockOffset{from, offset}) })
	c.Sample()
	source.aheadNs += 5_000_000
	c.Sample()
	if diff := cmp.Diff(c.History(), got); diff != "" {
		t.Errorf("hook was told (-history +told):\n%s", diff)
	}
	if len(got) != 2 {
		t.Errorf("%d calls, want one for the offset in force and one for the step", len(got))
	}
}

func TestClockHistoryIsBounded(t *testing.T) {
	source := &steppedClock{monoNs: 1, aheadNs: epoch}
	c := newClock(source, 0)
	for range clockHistory + 10 {
		source.aheadNs += 1_000_000
		c.Sample()
	}
	if n := len(c.History()); n != clockHistory {
		t.Errorf("%d offsets are kept, want %d", n, clockHistory)
	}
	near(t, "latest offset", c.OffsetNs(c.MonoNs()), source.aheadNs)
}

func TestClockOffsetAllocatesNothing(t *testing.T) {
	c := newClock(&steppedClock{monoNs: 1, aheadNs: epoch}, 0)
	if n := testing.AllocsPerRun(100, func() { c.OffsetNs(7) }); n != 0 {
		t.Errorf("OffsetNs allocates %v times", n)
	}
}

func TestReplayClockEmpty(t *testing.T) {
	if got := ReplayClock(nil).OffsetNs(1); got != 0 {
		t.Errorf("offset of an empty history = %d", got)
	}
}

func TestSystemClock(t *testing.T) {
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	unixNs := int64(c.MonoNs()) + c.OffsetNs(c.MonoNs())
	if d := time.Since(time.Unix(0, unixNs)); d < -time.Second || d > time.Second {
		t.Errorf("now by the offset is %v from now", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestTimeNamespaceShift(t *testing.T) {
	tests := map[string]struct {
		offsets, own, children string
		want                   int64
		fails                  bool
	}{
		"initial namespace": {"monotonic           0         0\nboottime            0         0\n", "time:[1]", "time:[1]", 0, false},
		"own namespace":     {"monotonic  86400 5\nboottime 7 0\n", "time:[2]", "time:[2]", 86400_000_000_005, false},
		"behind":            {"monotonic  -10 500000000\n", "time:[2]", "time:[2]", -9_500_000_000, false},
		"only of children":  {"monotonic  86400 0\n", "time:[1]", "time:[2]", 0, false},
		"no number":         {"monotonic  x 0\n", "time:[1]", "time:[1]", 0, true},
		"no namespaces":     {"", "", "", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.own != "" {
				writeFile(t, filepath.Join(dir, "timens_offsets"), tt.offsets)
				makeLink(t, tt.own, dir+"/ns/time")
				makeLink(t, tt.children, dir+"/ns/time_for_children")
			}
			got, err := timeNamespaceShift(dir)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("shift = %d, %v; want %d, failure %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func makeLink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkClockOffset(b *testing.B) {
	c := newClock(&steppedClock{monoNs: 1, aheadNs: epoch}, 0)
	for b.Loop() {
		c.OffsetNs(1 << 40)
	}
}
