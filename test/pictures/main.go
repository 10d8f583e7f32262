// Command pictures makes the pictures of docs/pictures: it runs guest.sh in a VM, which
// sends its spans to a Jaeger on this machine, chooses a trace for each picture, and
// takes it in a browser from Jaeger's page. `make pictures` runs it, with chromium
// installed.
//
//	pictures -otel-kprobe FILE -demo-app FILE -out DIRECTORY
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
	"github.com/otel-kprobe/otel-kprobe/test/vm"
)

const (
	// budget bounds everything: a cold cache, a boot and the pictures.
	budget = 40 * time.Minute
	// guestBudget bounds the VM, which needs some three minutes of its own.
	guestBudget = 15 * time.Minute
	// jaegerBudget bounds what is asked of Jaeger or of its page for one picture.
	jaegerBudget = time.Minute
)

// programs are the paths of what runs in the VM.
type programs struct{ otelKprobe, demoApp string }

func main() {
	var p programs
	flag.StringVar(&p.otelKprobe, "otel-kprobe", "", "otel-kprobe's `FILE`")
	flag.StringVar(&p.demoApp, "demo-app", "", "the `FILE` that demo/ builds")
	out := flag.String("out", "", "`DIRECTORY` that gets the pictures")
	flag.Parse()
	if p.otelKprobe == "" || p.demoApp == "" || *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(p, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// run makes all pictures in the directory out, until a signal ends it.
func run(p programs, out string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	work, err := os.MkdirTemp("", "otel-kprobe-pictures-")
	if err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	defer os.RemoveAll(work)
	page, err := e2e.ToolPath(ctx, e2e.ToolJaegerPage)
	if err != nil {
		return err
	}
	jaeger, err := e2e.StartJaeger(ctx, work, e2e.JaegerOptions{Page: page})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, jaeger.Stop()) }()
	kept := filepath.Join(work, "out")
	if err := runGuest(ctx, p, jaeger.OTLP, filepath.Join(work, "share"), kept); err != nil {
		return err
	}
	return takeAll(ctx, jaeger.Query, kept, out)
}

// runGuest runs guest.sh in a VM, from the directory share, until all spans are sent to
// the Jaeger at address; out gets the files that it leaves.
func runGuest(ctx context.Context, p programs, address, share, out string) error {
	root, err := e2e.RepositoryRoot()
	if err != nil {
		return err
	}
	if err := os.Mkdir(share, 0o755); err != nil {
		return fmt.Errorf("make the VM's directory: %w", err)
	}
	for name, from := range map[string]string{
		"otel-kprobe": p.otelKprobe, "demo-app": p.demoApp,
		"guest.sh": filepath.Join(root, "test", "pictures", "guest.sh"),
	} {
		if err := copyFile(filepath.Join(share, name), from); err != nil {
			return err
		}
	}
	port, err := e2e.Port(address)
	if err != nil {
		return err
	}
	exit, err := vm.Run(ctx, vm.Spec{
		Kernel: "6.12", Share: share, Out: out, Stdout: os.Stderr, Stderr: os.Stderr, Timeout: guestBudget,
		Env: []string{"JAEGER=http://10.0.2.2:" + strconv.Itoa(port)},
	}, "/share/guest.sh")
	if err != nil {
		return err
	}
	if exit != 0 {
		return fmt.Errorf("run guest.sh in the VM: status %d: see its output above", exit)
	}
	return nil
}

// copyFile makes an executable file of what from has.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy into the VM's directory: %w", err)
	}
	defer in.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("copy into the VM's directory: %w", err)
	}
	_, err = io.Copy(file, in)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("copy %s into the VM's directory: %w", from, err)
	}
	return nil
}
