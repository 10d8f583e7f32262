package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// The exit statuses, as --help and the README list them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitCannotTrace = 3
	exitLostSpans   = 4
	exitTooCostly   = 5
)

// statusError is an error that ends the program with a certain exit status.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// usageError says that the program was called wrongly.
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &statusError{exitUsage, err}
}

func usageErrorf(format string, args ...any) error {
	return usageError(fmt.Errorf(format, args...))
}

// report prints err as one line and returns the exit status that it asks for.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.status
	}
	// There is nowhere to tell that stderr can't be written.
	fmt.Fprintf(stderr, "otel-kprobe: %s\n", oneLine(err.Error()))
	return statusOf(err)
}

// statusOf is the exit status that an error asks for.
func statusOf(err error) int {
	var status *statusError
	if errors.As(err, &status) {
		return status.status
	}
	var cannot *kernel.CannotTraceError
	if errors.As(err, &cannot) {
		return exitCannotTrace
	}
	return exitFailed
}

// silentError ends the program with a status after the command has said itself
// what there is to say.
type silentError struct{ status int }

func (e *silentError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// readerGone makes nothing of an error that says that nobody reads stdout any
// more, as in `otel-kprobe functions | head`.
func readerGone(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// oneLine joins the lines of a joined error.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
