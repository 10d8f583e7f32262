package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// cgroupTree is a directory with cgroups, as far as they are directories.
func cgroupTree(t *testing.T, mount string) func(path string) uint64 {
	t.Helper()
	writeFile(t, mount+"/system.slice/x.service/cgroup.procs", "")
	writeFile(t, mount+"/user.slice/cgroup.procs", "")
	return func(path string) uint64 {
		t.Helper()
		id, err := cgroupID(mount + path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
}

func TestCgroupPathByHandle(t *testing.T) {
	asked := make(map[uint64]int)
	c := newCgroups("/sys/fs/cgroup")
	c.open = func(mount string, id uint64) (string, error) {
		asked[id]++
		switch id {
		case 1:
			return mount, nil
		case 77:
			return mount + "/system.slice/x.service", nil
		case 78:
			return "/elsewhere", nil
		}
		return "", os.NewSyscallError("open_by_handle_at", unix.ESTALE)
	}
	for range 2 {
		for id, want := range map[uint64]string{0: "", 1: "/", 77: "/system.slice/x.service", 78: "", 79: ""} {
			if got := c.Path(id); got != want {
				t.Errorf("Path(%d) = %q, want %q", id, got, want)
			}
		}
	}
	if diff := cmp.Diff(map[uint64]int{1: 1, 77: 1, 78: 1, 79: 1}, asked); diff != "" {
		t.Errorf("how often the kernel was asked (-want +got):\n%s", diff)
	}
}

func TestCgroupPathByWalk(t *testing.T) {
	mount := t.TempDir()
	id := cgroupTree(t, mount)
	c := newCgroups(mount)
	c.open = func(string, uint64) (string, error) { return "", os.NewSyscallError("open_by_handle_at", unix.EPERM) }
	now := time.Unix(1000, 0)
	c.now = func() time.Time { return now }
	check := func(id uint64, want string) {
		t.Helper()
		if got := c.Path(id); got != want {
			t.Errorf("Path(%d) = %q, want %q", id, got, want)
		}
	}
	service := id("/system.slice/x.service")
	check(service, "/system.slice/x.service")
	check(id(""), "/")
	check(id("/user.slice"), "/user.slice")

	writeFile(t, mount+"/new.slice/cgroup.procs", "")
	check(id("/new.slice"), "") // walked less than a second ago
	now = now.Add(cgroupWalkPause)
	if err := os.RemoveAll(mount + "/system.slice"); err != nil {
		t.Fatal(err)
	}
	check(id("/new.slice"), "/new.slice")
	check(service, "/system.slice/x.service") // its requests may still come
}

func TestCgroupPathsAreBounded(t *testing.T) {
	c := newCgroups("/m")
	c.open = func(mount string, id uint64) (string, error) { return fmt.Sprintf("%s/%d", mount, id), nil }
	for id := range uint64(cgroupsKept + 100) {
		c.Path(id + 1)
	}
	if len(c.paths) != cgroupsKept {
		t.Errorf("%d paths are remembered, want %d", len(c.paths), cgroupsKept)
	}
	if got := c.Path(1); got != "/1" {
		t.Errorf("what was forgotten is %q", got)
	}
}

// TestCgroupsHere runs the real thing, on any machine, with any privilege.
func TestCgroupsHere(t *testing.T) {
	m, err := findCgroupMount("")
	if err != nil {
		if path := NewCgroups().Path(1); path != "" {
			t.Errorf("a machine without cgroups names %q", path)
		}
		return
	}
	id, err := cgroupID(m.path)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCgroups()
	if got := c.Path(id); got != "/" {
		t.Errorf("the path of the root is %q", got)
	}
	if got := c.Path(1 << 62); got != "" {
		t.Errorf("a cgroup that never was is %q", got)
	}
	entries, err := os.ReadDir(m.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		id, err := cgroupID(m.path + "/" + e.Name())
		if got := c.Path(id); err == nil && got != "/"+e.Name() {
			t.Errorf("the path of %s is %q", e.Name(), got)
		}
	}
}

func TestBelow(t *testing.T) {
	tests := map[[2]string]string{
		{"/m", "/m"}: "/", {"/m", "/m/a/b"}: "/a/b", {"/", "/"}: "/", {"/", "/a"}: "/a",
		{"/m", "/mm"}: "", {"/m", "/x"}: "", {"/m", ""}: "",
	}
	for in, want := range tests {
		if got, ok := below(in[0], in[1]); got != want || ok != (want != "") {
			t.Errorf("below(%q, %q) = %q, %v; want %q", in[0], in[1], got, ok, want)
		}
	}
}

const mountinfo = `22 1 0:21 / / rw - ext4 /dev/root rw
30 22 0:27 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
`

func TestFindCgroupMount(t *testing.T) {
	tests := map[string]struct {
		lines string
		want  cgroupMount
	}{
		"unified":       {"40 30 0:37 / /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup2 rw\n", cgroupMount{"/sys/fs/cgroup", "/"}},
		"escaped":       {`40 30 0:37 /a\040b /c\134d rw - cgroup2 none rw` + "\n", cgroupMount{`/c\d`, "/a b"}},
		"all preferred": {"1 1 0:1 /a /x rw - cgroup2 n rw\n1 1 0:1 / /y rw - cgroup2 n rw\n1 1 0:1 / /z rw - cgroup2 n rw\n", cgroupMount{"/y", "/"}},
		"none":          {mountinfo, cgroupMount{}},
		"damaged":       {"1 - cgroup2\n - cgroup2 x\n", cgroupMount{}},
	}
	for name, tt := range tests {
		root := t.TempDir()
		writeFile(t, root+"/proc/self/mountinfo", tt.lines)
		got, err := findCgroupMount(root)
		if got != tt.want || (err == nil) != (tt.want.path != "") {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
	if _, err := findCgroupMount(t.TempDir()); err == nil || !strings.Contains(err.Error(), "mount procfs") {
		t.Errorf("without /proc: %v", err)
	}
}

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{"/a": "/a", `/a\040b`: "/a b", `\134`: `\`, `/a\04`: `/a\04`, `/a\999`: `/a\999`, `\`: `\`} {
		if got := unescapeMount(in); got != want {
			t.Errorf("unescapeMount(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestResolveCgroup(t *testing.T) {
	root := t.TempDir()
	id := cgroupTree(t, root+"/sys/fs/cgroup")
	writeFile(t, root+"/sys/fs/cgroup/old/cgroup.procs", "")
	writeFile(t, root+"/proc/self/mountinfo", mountinfo+"40 30 0:37 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	makeLink(t, cgroupInitNS, root+"/proc/self/ns/cgroup")
	f := cgroupFinder{root: root, isCgroup2: func(dir string) bool { return !strings.HasSuffix(dir, "/old") }}

	const service = "/system.slice/x.service"
	for path, level := range map[string]int{
		"/": 0, "/sys/fs/cgroup": 0, "/sys/fs/cgroup/": 0, "/user.slice": 1, "user.slice": 1, service: 2,
		service + "/": 2, "/sys/fs/cgroup" + service: 2, "/user.slice/.." + service: 2, "../.." + service: 2,
	} {
		want := id(service)
		switch level {
		case 0:
			want = id("")
		case 1:
			want = id("/user.slice")
		}
		got, gotLevel, err := f.resolve(path)
		if err != nil || got != want || gotLevel != level {
			t.Errorf("resolve(%q) = %d, %d, %v; want %d, %d", path, got, gotLevel, err, want, level)
		}
	}
	for path, want := range map[string]string{
		"":      `find cgroup "": the path is empty; see systemd-cgls`,
		"/none": `find cgroup "/none": there is none of that name below /sys/fs/cgroup; see systemd-cgls`,
		"/old":  `find cgroup "/old": it is no cgroup of version 2; see systemd-cgls`,
		"/user.slice/cgroup.procs": `find cgroup "/user.slice/cgroup.procs": ` +
			`it is no cgroup of version 2; see systemd-cgls`,
	} {
		if _, _, err := f.resolve(path); err == nil || err.Error() != want {
			t.Errorf("resolve(%q): %v, want %s", path, err, want)
		}
	}
}

// A mount of a part of the cgroups is deeper than it looks.
func TestResolveCgroupBelowPartialMount(t *testing.T) {
	root := t.TempDir()
	cgroupTree(t, root+"/cg")
	writeFile(t, root+"/proc/self/mountinfo", "40 30 0:37 /docker/abc /cg rw - cgroup2 cgroup2 rw\n")
	f := cgroupFinder{root: root, isCgroup2: func(string) bool { return true }}
	if _, level, err := f.resolve("/user.slice"); level != 3 || err != nil {
		t.Errorf("level %d, %v; want 3", level, err)
	}
	makeLink(t, "cgroup:[4026532000]", root+"/proc/self/ns/cgroup")
	if _, _, err := f.resolve("/user.slice"); err == nil || !strings.Contains(err.Error(), "--cgroupns=host") {
		t.Errorf("in a namespace: %v", err)
	}
}

func TestResolveCgroupWithoutMount(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root+"/proc/self/mountinfo", mountinfo)
	_, _, err := cgroupFinder{root: root}.resolve("/user.slice")
	if err == nil || !strings.Contains(err.Error(), "cgroups of version 2 are not mounted") {
		t.Errorf("without a mount: %v", err)
	}
}

func TestProcessExists(t *testing.T) {
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(errors.Join(errors.New("run a child"), err))
	}
	for pid, want := range map[int]bool{os.Getpid(): true, 1: true, 0: false, -1: false, child.Process.Pid: false} {
		if got := ProcessExists(pid); got != want {
			t.Errorf("ProcessExists(%d) = %v", pid, got)
		}
	}
}
