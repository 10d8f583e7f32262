package export

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Progress draws on one line of a terminal how far a long action has come. It
// is not safe for concurrent use.
type Progress struct {
	w      io.Writer
	o      ConsoleOptions
	action string
	shown  string
	every  time.Duration
	now    func() time.Time
	last   time.Time
}

// NewProgress makes a Progress for an action ("Attaching"). It draws only when
// the options have a width, so on a terminal (see TerminalOptions), and at most
// ten times a second.
func NewProgress(w io.Writer, o ConsoleOptions, action string) *Progress {
	return &Progress{w: w, o: o, action: action, every: 100 * time.Millisecond, now: time.Now}
}

// Update shows that done of total parts are done. Failing to draw is no error.
func (p *Progress) Update(done, total int) {
	width := 0
	if p.o.Width != nil {
		width = p.o.Width()
	}
	now := p.now()
	if width <= 0 || total <= 0 || p.shown != "" && done < total && now.Sub(p.last) < p.every {
		return
	}
	text := p.draw(min(done, total), total, width)
	if text == p.shown {
		return
	}
	p.shown, p.last = text, now
	_, _ = io.WriteString(p.w, "\r"+text+"\x1b[K") // a drawing is all that is lost
}

// Done clears the line.
func (p *Progress) Done() {
	if p.shown == "" {
		return
	}
	p.shown = ""
	_, _ = io.WriteString(p.w, "\r\x1b[K") // see Update
}

// draw gives "Attaching  812/1449 ████▌   ", never as wide as the line, where
// some terminals would wrap.
func (p *Progress) draw(done, total, width int) string {
	digits := len(fmt.Sprint(total))
	text := fmt.Sprintf("%s %*d/%d", p.action, digits, done, total)
	bar := min(width-len(text)-2, 40)
	if bar < 4 {
		return text[:min(len(text), max(width-1, 0))]
	}
	full, empty := "█", "░"
	if p.o.ASCII {
		full, empty = "#", "."
	}
	n := bar * done / total
	return text + " " + strings.Repeat(full, n) + strings.Repeat(empty, bar-n)
}

// Listening gives the line that says that tracing has begun.
func Listening(attached, skipped int, took time.Duration) string {
	return fmt.Sprintf("Attached %s (%d skipped) in %s; listening", probes(attached), skipped, brief(took))
}

// ListeningBlock gives that line for block devices, those named or, without any
// name, all of them.
func ListeningBlock(devices []string, attached int, took time.Duration) string {
	what := "all block devices"
	if len(devices) > 0 {
		what = strings.Join(devices, ", ")
	}
	return fmt.Sprintf("Attached %s in %s; listening to %s", probes(attached), brief(took), what)
}

func probes(n int) string {
	if n == 1 {
		return "1 probe"
	}
	return fmt.Sprintf("%d probes", n)
}

// brief rounds a time to what a reader wants to know of it.
func brief(took time.Duration) time.Duration {
	if took >= time.Second {
		return took.Round(10 * time.Millisecond)
	}
	return took.Round(time.Millisecond)
}
