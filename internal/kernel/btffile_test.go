package kernel

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestReadVmlinuxBTF(t *testing.T) {
	dir := t.TempDir()
	own, none := filepath.Join(dir, "own"), filepath.Join(dir, "none")
	this, other := string(machineBTF([]string{"ip_rcv"}, nil)), string(machineBTF([]string{"tcp_v4_rcv"}, nil))
	for path, text := range map[string]string{"own/vmlinux": this, "this": this, "other": other, "text": "no BTF at all"} {
		writeFile(t, filepath.Join(dir, path), text)
	}
	for _, c := range []struct {
		file, dir string
		has       string // a function
		err       string // a part of it
	}{
		{"", own, "ip_rcv", ""},
		{"", none, "", "no such file or directory"},
		{"this", own, "ip_rcv", ""},
		{"this", none, "ip_rcv", ""},
		{"other", none, "tcp_v4_rcv", ""},
		{"other", own, "", "other describes another kernel than the one that runs, which describes itself: use no file"},
		{"text", none, "", "text: damaged or foreign BTF: 13 bytes hold no header"},
		{"missing", own, "", "missing: no such file or directory"},
	} {
		file := c.file
		if file != "" {
			file = filepath.Join(dir, file)
		}
		types, err := ReadVmlinuxBTF(file, c.dir)
		switch {
		case c.err == "" && (err != nil || !types.HasFunc(c.has)):
			t.Errorf("%q, %s: %v, want types with %s", c.file, c.dir, err, c.has)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q, %s: error %v, want %q", c.file, c.dir, err, c.err)
		}
	}
}
