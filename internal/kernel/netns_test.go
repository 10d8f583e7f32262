package kernel

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNetNSNames(t *testing.T) {
	dir := t.TempDir()
	n := NewNetNSNames()
	now := time.Unix(1_700_000_000, 0)
	n.dir, n.proc, n.now = filepath.Join(dir, "netns"), filepath.Join(dir, "proc"), func() time.Time { return now }
	namespace := func(paths ...string) uint32 {
		t.Helper()
		first := filepath.Join(dir, paths[0])
		writeFile(t, first, "")
		for _, path := range paths[1:] { // the same inode elsewhere
			path = filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Link(first, path); err != nil {
				t.Fatal(err)
			}
		}
		i, _, err := inodeOf(first)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	at := time.Now().Add(time.Second) // files are made now
	check := func(inode uint32, want string) {
		t.Helper()
		if got := n.Name(inode, uint64(at.UnixNano())); got != want {
			t.Errorf("Name(%d) = %q, want %q", inode, got, want)
		}
	}
	check(namespace("proc/self/ns/net", "proc/1/ns/net"), "") // there is no directory of names yet
	blue := namespace("netns/blue", "proc/20/ns/net")
	green := namespace("netns/green")
	box := namespace("proc/120/ns/net", "proc/31/ns/net")
	for pid, comm := range map[string]string{"1": "init", "20": "ip", "31": "nginx", "120": "sh"} {
		writeFile(t, filepath.Join(dir, "proc", pid, "comm"), comm+"\n")
	}
	check(blue, "blue") // looked just before, and yet found
	check(box, "nginx[31]")
	check(green, "green")
	if err := os.Remove(dir + "/netns/blue"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(netnsCheckedFor)
	check(blue, "ip[20]") // its process is still there
	if err := os.RemoveAll(dir + "/proc/20"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(netnsCheckedFor)
	check(blue, "ip[20]") // its packets may still come
	now = now.Add(netnsGoneFor)
	check(blue, "")
	check(box, "nginx[31]")
	hidden := namespace("nowhere")
	check(hidden, "") // and nothing knows it
	if err := os.Link(filepath.Join(dir, "nowhere"), filepath.Join(dir, "netns", "found")); err != nil {
		t.Fatal(err)
	}
	check(hidden, "")
	now = now.Add(netnsUnknownFor)
	check(hidden, "found")
	// Another namespace has its number, as one that is made later often has.
	if err := os.Rename(filepath.Join(dir, "netns", "found"), filepath.Join(dir, "netns", "later")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(netnsCheckedFor)
	check(hidden, "later")

	// A packet from before that name had the number's namespace of then.
	at = at.Add(-time.Minute)
	check(hidden, "")
	check(box, "nginx[31]") // of processes it is not known since when
	at = at.Add(-netnsLatest)
	check(hidden, "later") // the clock was set back
}
