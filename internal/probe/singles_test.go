package probe

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestReadKprobePMU(t *testing.T) {
	tests := map[string]struct {
		pmu, format string
		wantPMU     uint32
		wantBit     uint
		bad         bool
	}{
		"as Linux has it": {"6\n", "config:0\n", 6, 0, false},
		"another bit":     {"12\n", "config:3\n", 12, 3, false},
		"no number":       {"kprobe\n", "config:0\n", 0, 0, true},
		"no bit":          {"6\n", "config1:0\n", 0, 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "format"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"type": test.pmu, "format/retprobe": test.format} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			pmu, bit, err := readKprobePMU(dir)
			if (err != nil) != test.bad || pmu != test.wantPMU || bit != test.wantBit {
				t.Errorf("type %d, bit %d, error %v; want %d, %d", pmu, bit, err, test.wantPMU, test.wantBit)
			}
		})
	}
	if _, _, err := readKprobePMU(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v of a kernel without it, want ErrNotExist", err)
	}
}

// What the kernel does not have is not asked of it, which takes it long.
func TestSinglesKnowWhatIsMissing(t *testing.T) {
	missing := errors.New("no such symbol")
	s := singles{address: func(string) (uint64, error) { return 0, missing }}
	if _, err := s.attach(nil, "f", atEntry); !errors.Is(err, missing) {
		t.Errorf("error %v, want %v", err, missing)
	}
}
