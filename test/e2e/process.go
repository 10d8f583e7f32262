package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	loopback = "127.0.0.1"
	// startAttempts bounds how often a back-end is started on new ports. A free
	// port is only free until another process takes it.
	startAttempts = 3
	readyPoll     = 50 * time.Millisecond
)

// process is a back-end that runs in the background and logs to a file.
type process struct {
	name    string
	cmd     *exec.Cmd
	logPath string
	// exited is closed after the process has been reaped; err is valid then.
	exited chan struct{}
	err    error
	// killed says that kill ended it; whoever stops the process owns this.
	killed bool
}

// startProcess starts bin. Its standard output and error go to logPath. The
// process is killed when the test binary dies, so that a panic leaves nothing.
func startProcess(name, logPath, bin string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, logPath: logPath, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// errExited says that a process ended before it was ready.
var errExited = errors.New("exited before it was ready")

// waitReady returns nil once a GET of url answers 200. It returns an error that
// wraps errExited when the process ends first.
func (p *process) waitReady(ctx context.Context, url string) error {
	client := newHTTPClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if statusOK(ctx, client, url) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s %w (%w)\n%s", p.name, errExited, p.err, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("wait until %s answers at %s: %w\n%s", p.name, url, ctx.Err(), p.logTail())
		case <-tick.C:
		}
	}
}

// stop asks the process to end, which flushes what it holds, and kills it when
// ctx ends first. It may be called again and then reports the same.
func (p *process) stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop %s: killed, it did not end by itself: %w\n%s", p.name, ctx.Err(), p.logTail()), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("stop %s: %w\n%s", p.name, p.err, p.logTail())
	}
	return nil
}

// kill ends the process at once. It returns an error when the process had ended
// before by itself: a back-end must not crash unseen.
func (p *process) kill() error {
	select {
	case <-p.exited:
		if p.killed {
			return nil
		}
		return fmt.Errorf("stop %s: it had ended by itself (%w)\n%s", p.name, p.err, p.logTail())
	default:
	}
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.exited
	return nil
}

// logTail returns the end of the process's log, for error messages.
func (p *process) logTail() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("last lines of %s:\n%s", p.logPath, lastLines(string(text), 8))
}

// startReady calls start until its process is ready, on new ports each time,
// but gives up after startAttempts or as soon as ctx ends. start returns the
// process and the URL that answers 200 once it is ready.
func startReady(ctx context.Context, start func() (p *process, readyURL string, err error)) (*process, error) {
	var failures []error
	for range startAttempts {
		p, url, err := start()
		if err != nil {
			return nil, err
		}
		err = p.waitReady(ctx, url)
		if err == nil {
			return p, nil
		}
		failures = append(failures, err)
		if !errors.Is(err, errExited) {
			return nil, errors.Join(append(failures, p.kill())...)
		}
	}
	return nil, errors.Join(failures...)
}

// freeAddresses returns n different "127.0.0.1:port" that nothing listens on at
// the moment.
func freeAddresses(n int) ([]string, error) {
	// Held until all are known: otherwise the kernel may hand out one twice.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close() //nolint:errcheck // nothing was ever accepted on it
		}
	}()
	addresses := make([]string, 0, n)
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// Port returns the port of a "host:port" address that this package handed out.
func Port(address string) (int, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("split the address: %w", err)
	}
	return strconv.Atoi(port)
}

// newHTTPClient returns a client that ignores proxies of the environment: all
// back-ends are on loopback.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
}

func statusOK(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false
	}
	return resp.StatusCode == http.StatusOK
}
