package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClaimsKeepFilesUntilBegin(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "fresh")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *claims {
		var c claims
		for _, path := range []string{old, fresh} {
			if _, err := c.open("--output", path, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return &c
	}
	open().abandon()
	if got := string(read(t, old)); got != "old" {
		t.Errorf("abandoned file holds %q", got)
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("abandoned new file: %v", err)
	}
	c := open()
	files := append([]claimed(nil), c.files...)
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	c.abandon()
	for _, f := range files {
		if got := string(read(t, f.Name())); got != "" {
			t.Errorf("begun file holds %q", got)
		}
		if err := f.Close(); err != nil {
			t.Errorf("a file was closed after begin: %v", err)
		}
	}
}

func TestClaimsOfOneFile(t *testing.T) {
	path := write(t, "file", nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	var c claims
	defer c.abandon()
	if _, err := c.open("--record", path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := c.open("--output", link, 0o600)
	if err == nil || !strings.Contains(err.Error(), "create the file of --output: it is --record, too; name another") {
		t.Error(err)
	}
	for range 2 { // devices may be shared
		if _, err := c.open("--output", os.DevNull, 0o600); err != nil {
			t.Error(err)
		}
	}
}
