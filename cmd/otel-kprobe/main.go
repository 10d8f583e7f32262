// Command otel-kprobe shows the way of packets through the Linux kernel as
// OpenTelemetry traces: one trace for each packet, one span for each kernel
// function that it went through.
//
// Exit status: 0 all is well; 1 it failed while it ran; 2 it was called wrongly;
// 3 this kernel, or this process's rights, do not allow tracing; 4 spans were
// lost on their way out; 5 it detached by itself, since tracing cost too much.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A closed pipe on stdout is an error of the console exporter, not an end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go obey(signals, cancel, os.Exit)
	os.Exit(run(ctx, os.Args[1:], system{
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
	}))
}

// obey asks with the first signal for an end that loses nothing, and ends the
// program with the second: the kernel detaches what was attached. The exit
// status is then what a shell gives for a program that the signal killed.
func obey(signals <-chan os.Signal, end context.CancelFunc, exit func(status int)) {
	<-signals
	end()
	status := exitFailed
	if second, ok := (<-signals).(syscall.Signal); ok {
		status = 128 + int(second)
	}
	exit(status)
}

// system is what a command may use of the process, so that tests can stand in.
type system struct {
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, sys system) int {
	root := newRoot(sys, newLogger(sys.stderr))
	root.SetArgs(args)
	root.SetOut(sys.stdout)
	root.SetErr(sys.stderr)
	return report(sys.stderr, root.ExecuteContext(ctx))
}

// newLogger writes lines without the time, which a terminal and a journal have.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
