package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ResolveCgroup finds a cgroup of version 2 by its path: absolute
// (/sys/fs/cgroup/system.slice/x) or from the root of the cgroups
// (/system.slice/x). id is the inode number of its directory; level is its
// depth, 0 for the root, as bpf_get_current_ancestor_cgroup_id counts it. The
// error is one sentence that says where to look.
func ResolveCgroup(path string) (id uint64, level int, err error) {
	return cgroupFinder{isCgroup2: isCgroup2}.resolve(path)
}

// cgroupFinder finds cgroups; tests give it other ones.
type cgroupFinder struct {
	root      string // what stands before /proc and /sys
	isCgroup2 func(dir string) bool
}

func (f cgroupFinder) resolve(path string) (id uint64, level int, err error) {
	fail := func(err error) (uint64, int, error) {
		return 0, 0, fmt.Errorf("find cgroup %q: %w", path, err)
	}
	mount, err := findCgroupMount(f.root)
	if err != nil {
		return fail(err)
	}
	if ns, err := os.Readlink(f.root + "/proc/self/ns/cgroup"); err == nil && ns != cgroupInitNS {
		return fail(errors.New("this process is in a cgroup namespace of its own, in which the depth of a cgroup " +
			"cannot be told; run it in the host's, for example with docker run --cgroupns=host"))
	}
	if path == "" {
		return fail(errors.New("the path is empty; see systemd-cgls"))
	}
	rest, ok := below(mount.path, filepath.Clean(path))
	if !ok {
		rest = filepath.Clean("/" + path)
	}
	dir := filepath.Join(f.root, mount.path, rest)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(fmt.Errorf("there is none of that name below %s; see systemd-cgls", mount.path))
	case err != nil:
		return fail(err)
	case !info.IsDir() || !f.isCgroup2(dir):
		return fail(errors.New("it is no cgroup of version 2; see systemd-cgls"))
	}
	if id, err = cgroupID(dir); err != nil {
		return fail(err)
	}
	return id, depth(mount.of) + depth(rest), nil
}

// depth counts the elements of a clean path that begins with /.
func depth(path string) int {
	if path == "/" {
		return 0
	}
	return strings.Count(path, "/")
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// cgroupMount is a place where cgroup2 is mounted.
type cgroupMount struct {
	path string
	of   string // the cgroup that is mounted there, / for all
}

// findCgroupMount looks into mountinfo, and prefers a mount of all cgroups.
func findCgroupMount(root string) (cgroupMount, error) {
	text, err := os.ReadFile(root + "/proc/self/mountinfo")
	if err != nil {
		return cgroupMount{}, fmt.Errorf("%w; mount procfs on /proc", err)
	}
	var found cgroupMount
	for line := range strings.Lines(string(text)) {
		m, ok := parseCgroupMount(line)
		if ok && (found.path == "" || found.of != "/" && m.of == "/") {
			found = m
		}
	}
	if found.path == "" {
		return cgroupMount{}, errors.New("cgroups of version 2 are not mounted; " +
			"run mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	return found, nil
}

// parseCgroupMount reads a line of /proc/self/mountinfo (proc(5)): fields in
// front of a lone hyphen, as many as there are options, then the type.
func parseCgroupMount(line string) (cgroupMount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	fields := strings.Fields(left)
	if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup2 ") {
		return cgroupMount{}, false
	}
	return cgroupMount{path: unescapeMount(fields[4]), of: unescapeMount(fields[3])}, true
}

// unescapeMount undoes the octal escapes (\040) of blanks and backslashes.
func unescapeMount(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	var out strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+4 <= len(field) {
			if v, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		out.WriteByte(field[i])
	}
	return out.String()
}
