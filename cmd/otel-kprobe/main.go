// Command otel-kprobe shows the way of packets through the Linux kernel as
// OpenTelemetry traces: one trace for each packet, one span for each kernel
// function that it went through.
//
// Exit status: 0 all is well; 1 it failed while it ran; 2 it was called wrongly;
// 3 this kernel, or this process's rights, do not allow tracing; 4 spans were
// lost on their way out.
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], system{
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
	})
	stop()
	os.Exit(status)
}

// system is what a command may use of the process, so that tests can stand in.
type system struct {
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, sys system) int {
	logger := slog.New(slog.NewTextHandler(sys.stderr, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	root := newRoot(sys, logger)
	root.SetArgs(args)
	root.SetOut(sys.stdout)
	root.SetErr(sys.stderr)
	return report(sys.stderr, root.ExecuteContext(ctx))
}
