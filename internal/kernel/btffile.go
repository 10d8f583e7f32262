package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadVmlinuxBTF opens the types of the kernel image: those in file, or, when that
// is empty, the kernel's own in a directory laid out as BTFDir. A file is for kernels
// that do not describe themselves; where the kernel does, it has to say the same,
// since whatever else is read (modules, ids of types) builds on the kernel's own.
func ReadVmlinuxBTF(file, dir string) (*RawBTF, error) {
	if file == "" {
		return ReadBTF(dir, "vmlinux", nil)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read kernel types: %w", err)
	}
	types, err := ParseRawBTF(data, nil)
	if err != nil {
		return nil, fmt.Errorf("read kernel types of %s: %w", file, err)
	}
	own, err := os.ReadFile(filepath.Join(dir, "vmlinux"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read kernel types: %w", err)
	case !bytes.Equal(own, data):
		return nil, fmt.Errorf("%s describes another kernel than the one that runs, which describes itself: use no file", file)
	}
	return types, nil
}
