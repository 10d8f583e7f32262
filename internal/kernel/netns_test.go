package kernel

import (
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
