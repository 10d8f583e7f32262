package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Format says what a Console writes of a trace.
type Format string

// The formats of a Console.
const (
	FormatTree  Format = "tree"  // a line for the packet, below it its functions, indented; or for the block request, below it those that it caused
	FormatLines Format = "lines" // pwru's table: a line per function, in the order of time; or biosnoop's: a line per block request
	FormatJSON  Format = "json"  // a JSON object per span
)

// ParseFormat gives the Format of that name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case FormatTree, FormatLines, FormatJSON:
		return f, nil
	default:
		return "", fmt.Errorf("unknown format %q: use tree, lines or json", name)
	}
}

// ConsoleOptions configure a Console. The zero value writes the tree as plain
// UTF-8 text of any width, with times in UTC. See TerminalOptions.
type ConsoleOptions struct {
	Format Format // "" is FormatTree
	Color  bool   // FormatTree: mark with the colours of ECMA-48 (SGR)
	ASCII  bool   // write nothing but ASCII
	// Width gives how many columns the terminal has now, 0 for no limit; nil is
	// no limit. It is asked once a trace. FormatTree cuts its lines to it.
	Width func() int
	// Height gives how many lines the terminal has now, as Width its columns.
	// Only Live asks for it.
	Height func() int
	// Location is where wall-clock times are shown; nil is UTC.
	Location *time.Location
}

var _ Exporter = (*Console)(nil)

// formatter appends a trace as text.
type formatter interface {
	appendTrace(dst []byte, t *spans.Trace) []byte
}

// Console writes each trace as text, in one write. When its reader has gone (a
// closed pipe) it writes no more, counts what it drops, and Broken tells. Its
// methods may be called concurrently.
type Console struct {
	mu     sync.Mutex
	w      io.Writer
	format formatter
	buf    []byte
	stats  Stats
	err    error
	broken chan struct{}
}

// NewConsole makes a Console that writes to w, which it does not close.
func NewConsole(w io.Writer, o ConsoleOptions) *Console {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Width == nil {
		o.Width = func() int { return 0 }
	}
	c := &Console{w: w, broken: make(chan struct{})}
	switch o.Format {
	case FormatLines:
		c.format = newLines(o)
	case FormatJSON:
		c.format = jsonLines{}
	case FormatTree, "":
		c.format = newTree(o)
	}
	return c
}

// Export writes a trace. A copy is not written, nor counted: the trace itself was.
func (c *Console) Export(t *spans.Trace) {
	if t.Copy {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := uint64(len(t.Spans))
	c.stats.Traces++
	c.stats.Spans += n
	if c.err != nil {
		c.stats.Failed += n
		return
	}
	c.buf = c.format.appendTrace(c.buf[:0], t)
	c.stats.Batches++
	c.stats.Bytes += uint64(len(c.buf))
	if _, c.err = c.w.Write(c.buf); c.err != nil {
		c.stats.Failed += n
		close(c.broken)
		return
	}
	c.stats.Exported += n
}

// Broken is closed when writing has failed: nobody reads, or the disk is full.
// A program whose only exporter this is should end then.
func (c *Console) Broken() <-chan struct{} { return c.broken }

// ReaderGone reports whether writing ended because nobody reads any more: that
// is how `otel-kprobe packets | head` ends, and no loss that anyone minds. The
// program must ignore SIGPIPE (signal.Ignore), which kills it otherwise when
// this is its standard output.
func (c *Console) ReaderGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.err, syscall.EPIPE) || errors.Is(c.err, io.ErrClosedPipe)
}

// Shutdown gives the error that ended the writing, unless the reader has gone.
func (c *Console) Shutdown(context.Context) error {
	gone := c.ReaderGone()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || gone {
		return nil
	}
	return fmt.Errorf("write to the console: %w", c.err)
}

// Stats gives the counters.
func (c *Console) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// utf8Locale reports whether a locale as in LC_ALL asks for UTF-8.
func utf8Locale(locale string) bool {
	l := strings.ToLower(locale)
	return strings.Contains(l, "utf-8") || strings.Contains(l, "utf8")
}
