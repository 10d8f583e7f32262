package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExecutable(t *testing.T) {
	proc := t.TempDir()
	process := func(pid, comm, exe string) {
		task := filepath.Join(proc, pid, "task", pid)
		if err := os.MkdirAll(task, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(task, "comm"), []byte(comm+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if exe == "" {
			return
		}
		if err := os.Symlink(exe, filepath.Join(proc, pid, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	process("12", "curl", "/usr/bin/curl")
	process("13", "old", "/usr/bin/old (deleted)")
	process("2", "kthreadd", "")
	name := func(s string) (b [16]byte) {
		copy(b[:], s)
		return b
	}
	for _, test := range []struct {
		about     string
		tgid, tid uint32
		comm      string
		want      string
	}{
		{"a process", 12, 12, "curl", "/usr/bin/curl"},
		{"another program's name", 12, 12, "wget", ""},
		{"a part of the name", 12, 12, "cur", ""},
		{"removed since", 13, 13, "old", "/usr/bin/old"},
		{"the kernel's own", 2, 2, "kthreadd", ""},
		{"a thread that has ended", 12, 14, "curl", "/usr/bin/curl"},
		{"a thread that has ended, of another name", 12, 14, "worker", ""},
		{"a process that is not there", 99, 99, "curl", ""},
	} {
		if got := executable(proc, test.tgid, test.tid, name(test.comm)); got != test.want {
			t.Errorf("%s: %q, want %q", test.about, got, test.want)
		}
	}
}
