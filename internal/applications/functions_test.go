package applications

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const toldNote = "github.com/otel-kprobe/otel-kprobe/internal/applications/testdata/app/told.note"

// buildProgram builds a program of testdata and returns its path.
func buildProgram(t *testing.T, name string, env []string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./testdata/"+name)...)
	build.Env = append(os.Environ(), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s %q %q: %v\n%s", name, env, flags, err, out)
	}
	return path
}

// runProgram starts a program app and returns where in its file it says that the
// function begins. It runs until the test ends.
func runProgram(t *testing.T, path string) (offset uint64, pid int) {
	t.Helper()
	run := exec.Command(path)
	run.Stderr = os.Stderr
	in, inErr := run.StdinPipe()
	out, outErr := run.StdoutPipe()
	if err := errors.Join(inErr, outErr, run.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), run.Wait()); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if offset, err = strconv.ParseUint(strings.TrimSpace(line), 10, 64); err != nil {
		t.Fatal(err)
	}
	return offset, run.Process.Pid
}

// find is findFunction for a path.
func find(t *testing.T, path, function string) (uint64, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return findFunction(f, function)
}

// TestFindFunction compares with what the programs say of themselves when they run.
func TestFindFunction(t *testing.T) {
	for _, test := range []struct {
		name  string
		cgo   string
		flags []string
	}{
		{"plain", "0", nil},
		{"stripped", "0", []string{"-ldflags=-s -w", "-trimpath"}},
		{"position-independent", "0", []string{"-buildmode=pie"}},
		{"position-independent, stripped", "0", []string{"-buildmode=pie", "-ldflags=-s -w"}},
		{"with C", "1", nil},
		{"with C, stripped", "1", []string{"-ldflags=-s -w"}},
		{"with C, position-independent", "1", []string{"-buildmode=pie"}},
		{"with C, position-independent, stripped", "1", []string{"-buildmode=pie", "-ldflags=-s -w"}},
		{"with C, static, stripped", "1", []string{"-ldflags=-linkmode external -extldflags -static -s -w"}},
		{"with C, packed relocations", "1", []string{"-buildmode=pie", "-ldflags=-s -w -extldflags -Wl,-z,pack-relative-relocs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := buildProgram(t, "app", []string{"CGO_ENABLED=" + test.cgo}, test.flags...)
			want, _ := runProgram(t, path)
			if got, err := find(t, path, toldNote); err != nil || got != want {
				t.Errorf("%#x, %v, want %#x", got, err, want)
			}
			for _, function := range []string{strings.TrimSuffix(toldNote, "e"), strings.TrimPrefix(toldNote, "g"), toldNote + "V2"} {
				if got, err := find(t, path, function); !errors.Is(err, errNoFunction) {
					t.Errorf("%s: %#x, %v, want %v", function, got, err, errNoFunction)
				}
			}
		})
	}
}

// TestFindNoFunction expects other files to be passed over without a complaint.
func TestFindNoFunction(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	script := filepath.Join(t.TempDir(), "script")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(script, []byte("#!/bin/sh\n"+strings.Repeat("true\n", 100)), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path string
		want       error
	}{
		{"empty", empty, errNotOurs},
		{"script", script, errNotOurs},
		{"C", "/bin/true", errNotOurs},
		{"arm64", buildProgram(t, "app", []string{"CGO_ENABLED=0", "GOARCH=arm64"}), errNotOurs},
		{"386", buildProgram(t, "app", []string{"CGO_ENABLED=0", "GOARCH=386"}), errNotOurs},
		{"the name in a string", buildProgram(t, "other", []string{"CGO_ENABLED=0"}), errNoFunction},
	} {
		if got, err := find(t, test.path, toldNote); !errors.Is(err, test.want) {
			t.Errorf("%s: %#x, %v, want %v", test.name, got, err, test.want)
		}
	}
}

// tables gives where in a program stands what is read.
func tables(t *testing.T, program []byte) (places [][2]uint64) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	places = append(places, [2]uint64{0, 64 + 56*uint64(len(f.Progs))})
	for _, name := range []string{".shstrtab", ".gopclntab", ".go.module", ".rela"} {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("no section %s", name)
		}
		places = append(places, [2]uint64{s.Offset, s.Offset + min(s.Size, 256)})
	}
	end := uint64(len(program))
	return append(places, [2]uint64{end - 64*uint64(len(f.Sections)), end})
}

// TestFindFunctionDamaged expects an error of every file that is cut off, and no panic
// nor a place outside of the code, whatever bytes are changed.
func TestFindFunctionDamaged(t *testing.T) {
	path := buildProgram(t, "app", []string{"CGO_ENABLED=0"}, "-buildmode=pie", "-ldflags=-s -w")
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(program); cut = cut*5/4 + 1 {
		if got, err := findFunction(bytes.NewReader(program[:cut]), toldNote); err == nil {
			t.Errorf("cut off after %d bytes: %#x, want an error", cut, got)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	places := tables(t, program)
	errs := 0
	for range 3000 {
		var undo []func()
		for range 1 + random.IntN(3) {
			place := places[random.IntN(len(places))]
			at := place[0] + random.Uint64N(place[1]-place[0])
			was := program[at]
			undo = append(undo, func() { program[at] = was })
			program[at] = byte(random.Uint32())
		}
		got, err := findFunction(bytes.NewReader(program), toldNote)
		for _, restore := range slices.Backward(undo) {
			restore()
		}
		if err != nil {
			errs++
		} else if got >= uint64(len(program)) {
			t.Errorf("%#x is not in the file", got)
		}
	}
	if errs == 0 {
		t.Error("no damage was found")
	}
}
