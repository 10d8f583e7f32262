package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestFile(t *testing.T, w io.Writer, change func(*FileOptions)) (*File, *bytes.Buffer) {
	t.Helper()
	logged := &bytes.Buffer{}
	o := FileOptions{Envelope: testEnvelope(), Log: slog.New(slog.NewTextHandler(logged, nil))}
	if change != nil {
		change(&o)
	}
	f, err := NewFile(w, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, logged
}

func TestFileWritesOneLinePerTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces.json")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f, _ := newTestFile(t, w, func(o *FileOptions) { o.BufferBytes, o.Wait = 1000, true })
	for id := range byte(100) {
		f.Export(madeTrace(id, 3, 5))
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := wholeLines(t, text); lines != 100 {
		t.Errorf("%d lines, want 100", lines)
	}
	if s := f.Stats(); s.Exported != 300 || s.Bytes != uint64(len(text)) || s.Traces != 100 {
		t.Errorf("%+v", s)
	}
}

// wholeLines counts the lines of a file that are JSON.
func wholeLines(t *testing.T, text []byte) (n int) {
	t.Helper()
	for line := range bytes.Lines(text) {
		if json.Valid(line) && line[len(line)-1] == '\n' {
			n++
		}
	}
	return n
}

func TestFileWritesAfterTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f, _ := newTestFile(t, &out, nil)
		f.Export(madeTrace(1, 3, 5))
		time.Sleep(DefaultFileInterval + time.Millisecond)
		synctest.Wait()
		if n := wholeLines(t, out.Bytes()); n != 1 {
			t.Errorf("%d lines, want 1", n)
		}
		if err := f.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// smallDisk takes room bytes, and more once it is told to.
type smallDisk struct {
	bytes.Buffer
	room int
}

func (d *smallDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.room-d.Len())
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestFileOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &smallDisk{room: 5000}
		f, logged := newTestFile(t, disk, func(o *FileOptions) { o.BufferBytes = 3000 })
		for id := range byte(40) {
			f.Export(madeTrace(id, 3, 5))
			synctest.Wait()
		}
		whole := wholeLines(t, disk.Bytes())
		if s := f.Stats(); whole == 0 || s.Exported != uint64(3*whole) || s.Failed == 0 {
			t.Errorf("%d whole lines, %+v", whole, s)
		}
		disk.room = 1 << 20 // someone made room
		for id := range byte(40) {
			f.Export(madeTrace(id, 3, 5))
			synctest.Wait()
		}
		err := f.Shutdown(t.Context())
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 {
			t.Errorf("%d lines logged, want 1:\n%s", n, logged)
		}
		s := f.Stats()
		if n := wholeLines(t, disk.Bytes()); uint64(3*n) != s.Exported || n < whole+40 {
			t.Errorf("%d whole lines of which %d early, %+v", n, whole, s)
		}
		checkBooks(t, s)
	})
}

// smallFile is a file on a disk that takes room bytes, and more once it is told to.
type smallFile struct {
	*os.File
	room int64
}

func (f *smallFile) Write(p []byte) (int, error) {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	fits := min(int64(len(p)), f.room-at)
	n, err := f.File.Write(p[:fits])
	if err == nil && n < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

// TestFileOnAFullDiskHasWholeLinesOnly takes the rest of a line that did not fit off
// the file, and goes on behind the last whole one.
func TestFileOnAFullDiskHasWholeLinesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces.json")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	disk := &smallFile{File: w, room: 5000}
	f, _ := newTestFile(t, disk, func(o *FileOptions) { o.BufferBytes, o.Wait = 1000, true })
	read := func() []byte {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	written := func(id byte) {
		t.Helper()
		before := f.Stats().Batches
		f.Export(madeTrace(id, 20, 5)) // a batch of its own
		for f.Stats().Batches == before {
			time.Sleep(time.Millisecond)
		}
	}
	for id := range byte(10) {
		written(id)
	}
	whole, text := f.Stats().Exported/20, read()
	if n := bytes.Count(text, []byte{'\n'}); wholeLines(t, text) != n || uint64(n) != whole || n == 0 || n == 10 || text[len(text)-1] != '\n' {
		t.Errorf("%d lines of which %d are whole, %+v", n, wholeLines(t, text), f.Stats())
	}
	disk.room = 1 << 20 // someone made room
	written(10)
	if err := f.Shutdown(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	s, text := f.Stats(), read()
	if n := bytes.Count(text, []byte{'\n'}); wholeLines(t, text) != n || uint64(n) != whole+1 || s.Bytes != uint64(len(text)) {
		t.Errorf("%d lines of which %d are whole, %d bytes, %+v", n, wholeLines(t, text), len(text), s)
	}
	checkBooks(t, s)
}

func TestFileToAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f, _ := newTestFile(t, w, nil)
	f.Export(madeTrace(1, 3, 5))
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, w)
	text, err := io.ReadAll(r)
	if err != nil || wholeLines(t, text) != 1 {
		t.Errorf("%q, %v", text, err)
	}
	mustClose(t, r)
}

func mustClose(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
