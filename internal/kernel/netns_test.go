package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNetNSNames(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1000, 0)
	n := &NetNSNames{dir: filepath.Join(dir, "netns"), self: filepath.Join(dir, "self"), now: func() time.Time { return now }}
	inode := func(name string) uint32 {
		path := filepath.Join(dir, name)
		writeFile(t, path, "")
		i, err := inodeOf(path)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	check := func(inode uint32, want string) {
		t.Helper()
		if got := n.Name(inode); got != want {
			t.Errorf("Name(%d) = %q, want %q", inode, got, want)
		}
	}
	self := inode("self")
	check(self, "") // there is no directory yet
	blue := inode("netns/blue")
	check(blue, "") // looked less than a second ago
	now = now.Add(netnsRefresh)
	check(blue, "blue")
	check(self, "")
	if err := os.Remove(dir + "/netns/blue"); err != nil {
		t.Fatal(err)
	}
	check(blue, "blue") // its packets may still come
}

func TestParseNetNS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	writeFile(t, path, "")
	want, err := inodeOf(path)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]uint32{path: want, fmt.Sprintf("inode:%d", want): want, "inode:4026531840": 4026531840} {
		if got, err := ParseNetNS(s); err != nil || got != want {
			t.Errorf("ParseNetNS(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"inode:", "inode:0", "inode:x", "inode:4294967296", "no-such-namespace", path + "x"} {
		if got, err := ParseNetNS(s); err == nil {
			t.Errorf("ParseNetNS(%q) = %d without an error", s, got)
		}
	}
}
