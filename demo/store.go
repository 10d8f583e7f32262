package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// keptFiles is how many files a store keeps; the oldest is removed for a new one.
const keptFiles = 64

// store keeps each body in a file of its own. It is safe for concurrent use.
type store struct {
	dir string

	mu    sync.Mutex
	files []string // oldest first
}

// newStore makes a store in a new directory below dir.
func newStore(dir string) (*store, error) {
	made, err := os.MkdirTemp(dir, "demo-app-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for files, see --dir: %w", err)
	}
	return &store{dir: made}, nil
}

// clear removes all that is stored.
func (s *store) clear() error {
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the stored files: %w", err)
	}
	return nil
}

// put writes content to a new file and has it on the disk when it returns.
func (s *store) put(content io.Reader) (n int64, err error) {
	f, err := os.CreateTemp(s.dir, "body-")
	if err != nil {
		return 0, fmt.Errorf("make a file: %w", err)
	}
	n, err = io.Copy(f, content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("store a body: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return n, s.keep(f.Name())
}

// keep remembers a file and removes one that is too old.
func (s *store) keep(path string) error {
	s.mu.Lock()
	s.files = append(s.files, path)
	old := ""
	if len(s.files) > keptFiles {
		old, s.files = s.files[0], s.files[1:]
	}
	s.mu.Unlock()
	if old == "" {
		return nil
	}
	if err := os.Remove(old); err != nil {
		return fmt.Errorf("remove the oldest file: %w", err)
	}
	return nil
}
