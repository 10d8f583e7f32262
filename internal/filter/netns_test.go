package filter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ownInode returns the inode of this process's network namespace.
func ownInode(t *testing.T) uint32 {
	t.Helper()
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino)
}

func TestParseNetNS(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		in   string
		want uint32
		err  string
	}{
		"path":           {in: "/proc/self/ns/net", want: ownInode(t)},
		"inode":          {in: "inode:4026531840", want: 4026531840},
		"hex inode":      {in: " inode:0xf0000001 ", want: 0xf0000001},
		"zero inode":     {in: "inode:0", err: "no namespace has inode 0"},
		"bad inode":      {in: "inode:x", err: `inode "x" is not a number`},
		"empty":          {in: "", err: "give a path, a name or inode:N"},
		"parent":         {in: "..", err: "give a path, a name or inode:N"},
		"missing path":   {in: "/nowhere/net", err: "no such file"},
		"missing name":   {in: "no-such-netns", err: "no such name in /run/netns or /var/run/netns"},
		"not a netns":    {in: plain, err: "is not a namespace file"},
		"wrong kind":     {in: "/proc/self/ns/mnt", err: "is a namespace of another type"},
		"directory":      {in: "/proc/self/ns", err: "is not a namespace file"},
		"relative inode": {in: "inode:", err: `inode "" is not a number`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseNetNS(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.HasPrefix(err.Error(), "parse network namespace ") {
					t.Fatalf("inode %d, error %v; want an error with %q", got, err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("inode %d, %v; want %d", got, err, tc.want)
			}
		})
	}
}

func TestNamedNetNS(t *testing.T) {
	empty, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink("/proc/self/ns/net", filepath.Join(dir, "blue")); err != nil {
		t.Fatal(err)
	}
	if got, err := namedNetNS("blue", empty, dir); err != nil || got != ownInode(t) {
		t.Errorf("inode %d, %v; want %d", got, err, ownInode(t))
	}
	if _, err := namedNetNS("red", empty, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that wraps fs.ErrNotExist", err)
	}
}
