package kernel

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadedModules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "modules")
	got, err := LoadedModules(path)
	if err != nil || got != nil {
		t.Errorf("without the file: %v, %v", got, err)
	}
	writeFile(t, path, "veth 49152 0 - Live 0xffffffffc0a2d000\nip_gre 36864 1 gre, Live 0x0\n")
	if got, err = LoadedModules(path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"veth", "ip_gre"}, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	if _, err := LoadedModules(filepath.Dir(path)); err == nil {
		t.Error("a directory is read as a list")
	}
}
