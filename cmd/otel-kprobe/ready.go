package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// clearReadyFile removes the ready file of an earlier run, and finds out before
// attaching whether a new one can be created. It does not create it, not even
// for a moment: somebody may be waiting for it.
func clearReadyFile(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = canCreate(path)
	case err == nil && info.IsDir():
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case err == nil && info.Mode().IsRegular():
		err = os.Remove(path)
	}
	if err != nil {
		return usageErrorf("create the file of --ready-file: %w", err)
	}
	return nil
}

// canCreate tries with another file in the same directory.
func canCreate(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".otel-kprobe-*")
	var refused *fs.PathError
	if errors.As(err, &refused) {
		return &fs.PathError{Op: refused.Op, Path: path, Err: refused.Err}
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// announce creates the ready file, if there is to be one.
func announce(path string) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return fmt.Errorf("create the file of --ready-file: %w", err)
	}
	return nil
}
