package export

import (
	"os"
	"time"

	"golang.org/x/term"
)

// TerminalOptions gives the options that suit a file and an environment (as
// os.Getenv gives it): colours and a size only where the file is a terminal, no
// colours when NO_COLOR is set (https://no-color.org) or TERM is dumb, ASCII
// when the locale has no UTF-8, and times of the local zone.
func TerminalOptions(f *os.File, getenv func(string) string) ConsoleOptions {
	o := ConsoleOptions{ASCII: !utf8Locale(localeOf(getenv)), Location: time.Local}
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return o
	}
	o.Color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	o.Width = func() int {
		width, _ := terminalSize(fd)
		return width
	}
	o.Height = func() int {
		_, height := terminalSize(fd)
		return height
	}
	return o
}

// terminalSize gives columns and lines, 0 and 0 when nobody knows.
func terminalSize(fd int) (width, height int) {
	width, height, err := term.GetSize(fd)
	if err != nil {
		return 0, 0
	}
	return width, height
}

// localeOf gives the locale of characters as POSIX finds it.
func localeOf(getenv func(string) string) string {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}
