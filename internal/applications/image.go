package applications

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxSections, maxSegments and maxSectionNames are far above what linkers make.
	maxSections     = 1024
	maxSegments     = 128
	maxSectionNames = 64 << 10
	// maxRelocations bounds the bytes of relocations that are read for one program.
	maxRelocations = 64 << 20
	// relocationBytes is the size of an elf.Rela64.
	relocationBytes = 24
	// chunkBytes is how much of a table is in memory at a time.
	chunkBytes = 64 << 10
)

// errNotOurs says that a file is no program that could tell of spans: no ELF file of
// amd64, or not made by Go's linker.
var errNotOurs = errors.New("not a Go program for amd64")

// image is an ELF file of amd64, by its tables.
type image struct {
	file     io.ReaderAt
	sections []elf.Section64
	names    []byte // of the sections
	segments []elf.Prog64
}

// readImage reads the tables. Every error is errNotOurs: what has no sections, as
// packed programs, can be anything.
func readImage(file io.ReaderAt) (*image, error) {
	var h elf.Header64
	err := readStruct(file, 0, &h)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the ELF header: %w: %w", errNotOurs, err)
	case !bytes.HasPrefix(h.Ident[:], []byte(elf.ELFMAG)),
		elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64,
		elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB,
		elf.Machine(h.Machine) != elf.EM_X86_64,
		elf.Type(h.Type) != elf.ET_EXEC && elf.Type(h.Type) != elf.ET_DYN,
		h.Shnum == 0:
		return nil, errNotOurs
	case h.Shnum > maxSections, h.Phnum > maxSegments, h.Shstrndx >= h.Shnum,
		int(h.Shentsize) != binary.Size(elf.Section64{}), int(h.Phentsize) != binary.Size(elf.Prog64{}):
		return nil, fmt.Errorf("read the ELF header: %w: its tables are of no known shape", errNotOurs)
	}
	m := &image{
		file:     file,
		sections: make([]elf.Section64, h.Shnum),
		segments: make([]elf.Prog64, h.Phnum),
	}
	if err := readStruct(file, h.Shoff, m.sections); err != nil {
		return nil, fmt.Errorf("read the sections: %w: %w", errNotOurs, err)
	}
	if err := readStruct(file, h.Phoff, m.segments); err != nil {
		return nil, fmt.Errorf("read the segments: %w: %w", errNotOurs, err)
	}
	names := m.sections[h.Shstrndx]
	if !plain(names) || names.Size > maxSectionNames {
		return nil, fmt.Errorf("read the names of sections: %w: they are of no known shape", errNotOurs)
	}
	m.names = make([]byte, names.Size)
	if err := readAt(file, m.names, names.Off); err != nil {
		return nil, fmt.Errorf("read the names of sections: %w: %w", errNotOurs, err)
	}
	return m, nil
}

// section finds a section whose bytes are in the file, as they are.
func (m *image) section(name string) (elf.Section64, bool) {
	for _, s := range m.sections {
		if uint64(s.Name) >= uint64(len(m.names)) || !plain(s) {
			continue
		}
		if found, _, _ := bytes.Cut(m.names[s.Name:], []byte{0}); string(found) == name {
			return s, true
		}
	}
	return elf.Section64{}, false
}

// plain is true of a section whose bytes are in the file, and not compressed.
func plain(s elf.Section64) bool {
	return elf.SectionType(s.Type) != elf.SHT_NOBITS &&
		elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED == 0 && s.Off+s.Size >= s.Off
}

// fileOffset is where the code of an address stands in the file.
func (m *image) fileOffset(addr uint64) (uint64, bool) {
	for _, p := range m.segments {
		if elf.ProgType(p.Type) == elf.PT_LOAD && elf.ProgFlag(p.Flags)&elf.PF_X != 0 &&
			addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return addr - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// relocate sets the words that the dynamic linker will make from an addend: in a
// position-independent program the file may have 0 there.
func (m *image) relocate(words map[uint64]uint64) error {
	left := uint64(maxRelocations)
	for _, s := range m.sections {
		if elf.SectionType(s.Type) != elf.SHT_RELA || elf.SectionFlag(s.Flags)&elf.SHF_ALLOC == 0 || !plain(s) {
			continue
		}
		if s.Size > left {
			return errors.New("read the relocations: there are too many")
		}
		left -= s.Size
		if err := m.relocateFrom(s, words); err != nil {
			return fmt.Errorf("read the relocations: %w", err)
		}
	}
	return nil
}

func (m *image) relocateFrom(s elf.Section64, words map[uint64]uint64) error {
	buffer := make([]byte, chunkBytes/relocationBytes*relocationBytes)
	for at, end := s.Off, s.Off+s.Size/relocationBytes*relocationBytes; at < end; {
		chunk := buffer[:min(uint64(len(buffer)), end-at)]
		if err := readAt(m.file, chunk, at); err != nil {
			return err
		}
		at += uint64(len(chunk))
		for r := chunk; len(r) > 0; r = r[relocationBytes:] {
			address := binary.LittleEndian.Uint64(r)
			_, wanted := words[address]
			if wanted && elf.R_X86_64(elf.R_TYPE64(binary.LittleEndian.Uint64(r[8:]))) == elf.R_X86_64_RELATIVE {
				words[address] = binary.LittleEndian.Uint64(r[16:])
			}
		}
	}
	return nil
}

// readStruct reads a structure, or a slice of such, as it stands in the file.
func readStruct(file io.ReaderAt, offset uint64, into any) error {
	raw := make([]byte, binary.Size(into))
	if err := readAt(file, raw, offset); err != nil {
		return err
	}
	_, err := binary.Decode(raw, binary.LittleEndian, into)
	return err
}

// readAt fills b; the end of the file before is io.EOF.
func readAt(file io.ReaderAt, b []byte, offset uint64) error {
	if offset > 1<<62 {
		return io.EOF
	}
	n, err := file.ReadAt(b, int64(offset))
	if n == len(b) {
		return nil
	}
	return err
}
