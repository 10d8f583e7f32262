package applications

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// pclntabMagic begins the table of functions since Go 1.20, little-endian.
	pclntabMagic = 0xfffffff1
	// maxTable, maxNames (bytes) and maxFunctions are far above what programs have: the
	// go command has 2 % of that at most.
	maxTable     = 256 << 20
	maxNames     = 64 << 20
	maxFunctions = 4 << 20
	// The members of runtime.moduledata that are read:
	// https://github.com/golang/go/blob/go1.26.0/src/runtime/symtab.go
	moduleMinPC = 160
	moduleText  = 176
)

// errNoFunction says that a Go program has no function of the name.
var errNoFunction = errors.New("the function is not there")

// functionTable is Go's own table of functions, which the runtime needs, so that it is
// in stripped programs, too: https://go.dev/s/go12symtab, and for its members
// https://github.com/golang/go/blob/go1.26.0/src/runtime/symtab.go (pcHeader, _func).
type functionTable struct {
	table     io.ReaderAt // the section
	count     uint64
	names     [2]uint64 // where the names begin and end
	functions uint64    // where count pairs of offsets stand: code, function
}

// findFunction gives the file offset of a function's entry. errNotOurs and
// errNoFunction say that there is none.
func findFunction(file io.ReaderAt, name string) (offset uint64, err error) {
	m, err := readImage(file)
	if err != nil {
		return 0, err
	}
	t, err := m.readFunctionTable()
	if err != nil {
		return 0, err
	}
	nameOffset, err := t.findName(name)
	if err != nil {
		return 0, err
	}
	entry, err := t.findEntry(nameOffset)
	if err != nil {
		return 0, err
	}
	text, err := m.textStart(t)
	if err != nil {
		return 0, err
	}
	offset, ok := m.fileOffset(text + uint64(entry))
	if !ok || readAt(file, make([]byte, 1), offset) != nil {
		return 0, errors.New("find the function's code: it is not in the file")
	}
	return offset, nil
}

// readFunctionTable reads the head of the table. Programs of Go before 1.26 cannot
// have the package (go.mod), and have no section with runtime.moduledata.
func (m *image) readFunctionTable() (*functionTable, error) {
	s, ok := m.section(".gopclntab")
	if _, hasModule := m.section(".go.module"); !ok || !hasModule {
		return nil, errNotOurs
	}
	var h struct {
		Magic                                  uint32
		Pad                                    [2]byte
		MinLC, PtrSize                         uint8
		Functions, Files, _                    uint64
		Names, Units, FileNames, Tables, Pairs uint64
	}
	t := &functionTable{table: io.NewSectionReader(m.file, int64(s.Off), int64(s.Size))}
	if err := readStruct(t.table, 0, &h); err != nil {
		return nil, fmt.Errorf("read the table of functions: %w", err)
	}
	switch {
	case h.Magic != pclntabMagic, h.PtrSize != 8, h.MinLC != 1:
		return nil, errors.New("read the table of functions: it is of no known version")
	case s.Size > maxTable, h.Functions == 0, h.Functions > maxFunctions, h.Names > h.Units, h.Units > s.Size,
		h.Units-h.Names > maxNames, h.Pairs > s.Size:
		return nil, errors.New("read the table of functions: its sizes cannot be")
	}
	t.count, t.names, t.functions = h.Functions, [2]uint64{h.Names, h.Units}, h.Pairs
	return t, nil
}

// findName gives where a name stands among the names.
func (t *functionTable) findName(name string) (uint32, error) {
	// The chunks overlap so that a name is whole in one of them.
	wanted := append(append([]byte{0}, name...), 0)
	buffer := make([]byte, chunkBytes)
	overlap := uint64(len(wanted) - 1)
	for at := t.names[0]; at < t.names[1]; at += chunkBytes - overlap {
		chunk := buffer[:min(chunkBytes, t.names[1]-at)]
		if err := readAt(t.table, chunk, at); err != nil {
			return 0, fmt.Errorf("read the names of functions: %w", err)
		}
		if i := bytes.Index(chunk, wanted); i >= 0 {
			return uint32(at - t.names[0] + uint64(i) + 1), nil
		}
	}
	return 0, errNoFunction
}

// findEntry gives where the code of the function with that name begins, counted from
// the start of all code.
func (t *functionTable) findEntry(name uint32) (uint32, error) {
	pairs := &window{file: t.table}
	functions := &window{file: t.table}
	last := uint32(0)
	for i := range t.count {
		pair, err := pairs.read(t.functions+i*8, 8)
		if err != nil {
			return 0, fmt.Errorf("read the functions: %w", err)
		}
		entry, at := binary.LittleEndian.Uint32(pair), binary.LittleEndian.Uint32(pair[4:])
		if at < last { // else a file could make us read any amount
			return 0, errors.New("read the functions: they are not in order")
		}
		last = at
		f, err := functions.read(t.functions+uint64(at), 8)
		if err != nil {
			return 0, fmt.Errorf("read the functions: %w", err)
		}
		if binary.LittleEndian.Uint32(f[4:]) == name {
			return entry, nil
		}
	}
	return 0, errNoFunction // inlined everywhere
}

// textStart gives the address from which the table counts. It is not that of the
// section .text, which may begin with code of C, and since Go 1.26 not in the table
// either: https://github.com/open-telemetry/opentelemetry-ebpf-profiler/issues/1145.
// A uprobe at a wrong place would break the program, so what is found has to agree
// with the first function of the table.
func (m *image) textStart(t *functionTable) (uint64, error) {
	s, _ := m.section(".go.module")
	minPC, text := s.Addr+moduleMinPC, s.Addr+moduleText
	raw := make([]byte, moduleText+8)
	if uint64(len(raw)) > s.Size {
		return 0, errors.New("read where the code begins: the module is of no known shape")
	}
	if err := readAt(m.file, raw, s.Off); err != nil {
		return 0, fmt.Errorf("read where the code begins: %w", err)
	}
	words := map[uint64]uint64{
		minPC: binary.LittleEndian.Uint64(raw[moduleMinPC:]),
		text:  binary.LittleEndian.Uint64(raw[moduleText:]),
	}
	if err := m.relocate(words); err != nil {
		return 0, err
	}
	var first uint32
	if err := readStruct(t.table, t.functions, &first); err != nil {
		return 0, fmt.Errorf("read the functions: %w", err)
	}
	if words[text] == 0 || words[text]+uint64(first) != words[minPC] {
		return 0, errors.New("read where the code begins: the module is of no known version")
	}
	return words[text], nil
}

// window reads a file forward, a chunk at a time.
type window struct {
	file  io.ReaderAt
	at    uint64
	bytes []byte
}

// read gives n bytes from offset on, until the next call.
func (w *window) read(offset uint64, n int) ([]byte, error) {
	if offset < w.at || offset+uint64(n) > w.at+uint64(len(w.bytes)) {
		if w.bytes == nil {
			w.bytes = make([]byte, chunkBytes)
		}
		got, err := w.file.ReadAt(w.bytes[:chunkBytes], int64(offset))
		w.at, w.bytes = offset, w.bytes[:got]
		if got < n {
			return nil, err
		}
	}
	return w.bytes[offset-w.at:][:n], nil
}
