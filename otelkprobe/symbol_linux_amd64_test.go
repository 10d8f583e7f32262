package otelkprobe_test

import (
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"testing"
)

const symbolNote = "github.com/otel-kprobe/otel-kprobe/otelkprobe.noteV1"

// TestNoteSymbol expects noteV1 in a service's binary, stripped or not: a function of its
// own that begins with an instruction which the kernel emulates, and that is called.
func TestNoteSymbol(t *testing.T) {
	for _, flags := range []string{"", "-s -w"} {
		t.Run("ldflags="+flags, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "stating")
			build := exec.Command("go", "build", "-ldflags="+flags, "-o", program, "./testdata/stating")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			file, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			find := fromSymtab
			if flags != "" {
				find = fromPclntab
			}
			address, ok := find(t, file)[symbolNote]
			if !ok {
				t.Fatalf("there is no %s", symbolNote)
			}
			text := file.Section(".text")
			code, err := text.Data()
			if err != nil {
				t.Fatal(err)
			}
			const pushRBP = 0x55
			at := address - text.Addr
			if code[at] != pushRBP {
				t.Errorf("%s begins with %#x, want push %%rbp", symbolNote, code[at])
			}
			// SpanStarted and SpanEnded, or what they are inlined in.
			if n := calls(code, at); n < 2 {
				t.Errorf("%s is called in %d places, want 2 at least", symbolNote, n)
			}
		})
	}
}

// fromSymtab reads where functions are as a debugger would.
func fromSymtab(t *testing.T, file *elf.File) map[string]uint64 {
	t.Helper()
	all, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, s := range all {
		found[s.Name] = s.Value
	}
	return found
}

// fromPclntab reads it from what Go's runtime needs itself: no strip removes that.
func fromPclntab(t *testing.T, file *elf.File) map[string]uint64 {
	t.Helper()
	if _, err := file.Symbols(); err == nil {
		t.Error("the binary has symbols still")
	}
	data, err := file.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, file.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, f := range table.Funcs {
		found[f.Name] = f.Entry
	}
	return found
}

// calls counts the direct calls of what is at an offset of the code: the opcode, and a
// distance of 4 bytes that counts from behind itself.
func calls(code []byte, at uint64) int {
	n := 0
	for i := range len(code) - 4 {
		distance := int64(int32(binary.LittleEndian.Uint32(code[i+1:])))
		if code[i] == 0xe8 && int64(i)+5+distance == int64(at) {
			n++
		}
	}
	return n
}
