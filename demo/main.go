// Command demo-app is a small distributed application whose spans and whose packets
// and block requests belong together: a load generator calls a front, which calls a
// back, which writes files. All of it is ordinary Go with OpenTelemetry's HTTP
// instrumentation, so what otel-kprobe shows of it is what it shows of any service.
//
//	demo-app back  --listen :8081
//	demo-app front --listen :8080 --back http://127.0.0.1:8081
//	demo-app load  --target http://127.0.0.1:8080
//
// Spans go by OTLP/gRPC to where the OTEL_EXPORTER_OTLP_… variables say, 127.0.0.1:4317
// without them.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := newRoot(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-app:", err)
		os.Exit(1)
	}
}

// newRoot makes the command line.
func newRoot(log *slog.Logger) *cobra.Command {
	root := &cobra.Command{
		Use:           "demo-app",
		Short:         "A small application to watch with otel-kprobe",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newFront(log), newBack(log), newLoad(log))
	return root
}
