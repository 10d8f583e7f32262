package export

import "unicode/utf8"

// style is how a piece of a line is coloured.
type style uint8

const (
	plain style = iota
	bold
	dim
	change
	alarm
)

// sgr gives the parameters of ECMA-48's Select Graphic Rendition.
func (s style) sgr() string {
	switch s {
	case bold:
		return "\x1b[1m"
	case dim:
		return "\x1b[2m"
	case change:
		return "\x1b[33m"
	case alarm:
		return "\x1b[1;31m"
	default:
		return ""
	}
}

// line is one line in the making: pieces of text, each in one style. A
// character counts as one column, which is true of what the kernel's names are
// made of.
type line struct {
	text   []byte
	pieces []piece
}

type piece struct {
	end     int // of its bytes in line.text
	columns int
	style   style
}

func (l *line) reset() { l.text, l.pieces = l.text[:0], l.pieces[:0] }

// start gives where the next piece begins.
func (l *line) start() int {
	if n := len(l.pieces); n > 0 {
		return l.pieces[n-1].end
	}
	return 0
}

// end makes what was appended to text since the last piece one of that style.
func (l *line) end(s style) {
	from := l.start()
	if from == len(l.text) {
		return
	}
	l.pieces = append(l.pieces, piece{end: len(l.text), columns: utf8.RuneCount(l.text[from:]), style: s})
}

// add adds a piece.
func (l *line) add(s style, text string) {
	l.text = append(l.text, text...)
	l.end(s)
}

// pad moves the text since the last piece to the right, so that it takes that
// many columns.
func (l *line) pad(columns int) {
	from := l.start()
	for n := utf8.RuneCount(l.text[from:]); n < columns; n++ {
		l.text = append(l.text, ' ')
	}
	missing := len(l.text) - from
	written := missing
	for written > 0 && l.text[from+written-1] == ' ' {
		written--
	}
	copy(l.text[from+missing-written:], l.text[from:from+written])
	for i := range missing - written {
		l.text[from+i] = ' '
	}
}

func (l *line) columns() int {
	n := 0
	for i := range l.pieces {
		n += l.pieces[i].columns
	}
	return n
}

// appendTo appends the pieces, cut to width with an ellipsis (0: no limit).
func (l *line) appendTo(dst []byte, width int, color bool, ellipsis string) []byte {
	left, cut := l.columns(), false
	if width > 0 && left > width {
		left, cut = max(width-utf8.RuneCountInString(ellipsis), 0), true
	}
	from := 0
	for _, p := range l.pieces {
		text := l.text[from:p.end]
		from = p.end
		if cut && p.columns > left {
			text = firstRunes(text, left)
		}
		left -= min(left, p.columns)
		dst = appendStyled(dst, p.style, text, color)
	}
	if cut {
		dst = append(dst, ellipsis...)
	}
	return dst
}

func appendStyled(dst []byte, s style, text []byte, color bool) []byte {
	if len(text) == 0 {
		return dst
	}
	if !color || s == plain {
		return append(dst, text...)
	}
	dst = append(append(dst, s.sgr()...), text...)
	return append(dst, "\x1b[0m"...)
}

// firstRunes gives the first n characters.
func firstRunes(text []byte, n int) []byte {
	at := 0
	for range n {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return text[:at]
}
