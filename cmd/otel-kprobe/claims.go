package main

import (
	"errors"
	"fmt"
	"os"
)

// claims are the files that a run is going to write. They are opened first of
// all, so that a mistyped path is known before anything is traced, and keep
// what they hold until begin: a run that never starts destroys nothing.
type claims struct {
	files []claimed
}

type claimed struct {
	*os.File
	flag    string
	created bool
	info    os.FileInfo
}

// open opens the file that flag names, for writing. An error is the user's to
// mend. It gives nil for no path.
func (c *claims) open(flag, path string, mode os.FileMode) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	_, err := os.Lstat(path)
	created := errors.Is(err, os.ErrNotExist)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return nil, usageErrorf("create the file of %s: %w", flag, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(usageErrorf("create the file of %s: %w", flag, err), file.Close())
	}
	claim := claimed{File: file, flag: flag, created: created, info: info}
	if err := c.distinct(claim); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	c.files = append(c.files, claim)
	return file, nil
}

// protect keeps a file that is read from being written.
func (c *claims) protect(what, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", what, err)
	}
	c.files = append(c.files, claimed{flag: what, info: info})
	return nil
}

// distinct refuses to write one file twice. Devices and pipes may be shared.
func (c *claims) distinct(claim claimed) error {
	for _, other := range c.files {
		if claim.info.Mode().IsRegular() && os.SameFile(claim.info, other.info) {
			return usageErrorf("create the file of %s: it is %s, too; name another", claim.flag, other.flag)
		}
	}
	return nil
}

// begin empties the files: from here on they are the run's.
func (c *claims) begin() error {
	for _, f := range c.files {
		if f.File == nil || !f.info.Mode().IsRegular() {
			continue
		}
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("empty the file of %s: %w", f.flag, err)
		}
	}
	c.files = nil
	return nil
}

// abandon closes the files of a run that did not begin, and removes those that
// were not there before. After begin it does nothing.
func (c *claims) abandon() {
	for _, f := range c.files {
		if f.File == nil {
			continue
		}
		_ = f.Close() // nothing was written
		if f.created {
			_ = os.Remove(f.Name()) // an empty file may stay
		}
	}
	c.files = nil
}
