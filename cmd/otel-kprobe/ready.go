package main

import (
	"errors"
	"fmt"
	"os"
)

// clearReadyFile removes the ready file of an earlier run, and finds out before
// attaching whether a new one can be created.
func clearReadyFile(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return usageErrorf("create the file of --ready-file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = os.Remove(path)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return usageErrorf("create the file of --ready-file: %w", err)
	}
	return nil
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
