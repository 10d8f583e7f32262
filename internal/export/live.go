package export

import (
	"bytes"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Live shows histograms again and again while a run goes on. On a terminal each
// drawing takes the place of the one before; elsewhere they follow one another.
// Nothing else may be written to that terminal between Show and Finish. It is
// not safe for concurrent use.
type Live struct {
	w      io.Writer
	o      ConsoleOptions
	redraw bool
	shown  int // lines above the cursor that the next drawing replaces
	text   []byte
	buf    []byte
}

// NewLive makes a Live that writes to w. With redraw, w must be a terminal; the
// options' Width and Height keep the drawing within it.
func NewLive(w io.Writer, o ConsoleOptions, redraw bool) *Live {
	if o.Location == nil {
		o.Location = time.UTC
	}
	return &Live{w: w, o: o, redraw: redraw}
}

// Show writes the time and the histograms as they are now. On a terminal that
// is too small lines are cut, and the last ones left out and counted.
func (l *Live) Show(now time.Time, groups []NamedHistogram) error {
	l.text = append(now.In(l.o.Location).AppendFormat(l.text[:0], "15:04:05"), '\n')
	l.text = AppendHistograms(l.text, groups, HistogramOptions{ASCII: l.o.ASCII})
	l.erase()
	if l.redraw {
		l.fit()
	} else {
		l.buf = append(append(l.buf, l.text...), '\n')
	}
	return l.flush()
}

// Finish writes the histograms of the whole run, all of their lines, in the
// place of what was shown last.
func (l *Live) Finish(groups []NamedHistogram) error {
	l.erase()
	l.buf = AppendHistograms(l.buf, groups, HistogramOptions{ASCII: l.o.ASCII})
	return l.flush()
}

// erase begins the output with the way back to where the last drawing began.
func (l *Live) erase() {
	l.buf = l.buf[:0]
	if l.shown > 0 {
		l.buf = fmt.Appendf(l.buf, "\r\x1b[%dA\x1b[J", l.shown)
	}
	l.shown = 0
}

// fit appends the lines of the text that the terminal has room for, each
// narrower than the terminal: where a line wraps, the way back is longer than
// erase believes. The last row is the cursor's.
func (l *Live) fit() {
	width, height := sizeOf(l.o.Width), sizeOf(l.o.Height)
	lines := bytes.Count(l.text, []byte{'\n'})
	keep := lines
	if height > 0 && lines > max(height-1, 1) {
		keep = max(height-2, 0)
	}
	rest := l.text
	for range keep {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte{'\n'})
		l.row(text, width)
	}
	if left := lines - keep; left > 0 {
		l.row(fmt.Appendf(nil, "%s %d more lines", signsFor(l.o.ASCII).ellipsis, left), width)
	}
}

// row appends one line, cut so that its last column stays free.
func (l *Live) row(text []byte, width int) {
	if columns := max(width-1, 1); width > 0 && utf8.RuneCount(text) > columns {
		text = firstRunes(text, columns)
	}
	l.buf = append(append(l.buf, text...), '\n')
	l.shown++
}

// sizeOf asks for a width or height; nil is no limit.
func sizeOf(ask func() int) int {
	if ask == nil {
		return 0
	}
	return ask()
}

func (l *Live) flush() error {
	if _, err := l.w.Write(l.buf); err != nil {
		return fmt.Errorf("write the histograms: %w", err)
	}
	return nil
}
