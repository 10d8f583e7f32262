package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// loadOptions are the flags of the load generator, but for those of its client.
type loadOptions struct {
	rate        float64 // requests a second
	concurrency int
	duration    time.Duration // 0: until it is told to end
	mix         mix
	size        int64 // bytes of an order
}

func newLoad(log *slog.Logger) *cobra.Command {
	var client clientOptions
	var k kernelTies
	o := loadOptions{mix: mix{{"root", 5}, {"order", 3}, {"slow", 1}, {"error", 1}}}
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Send requests to the front",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			if err := o.check(); err != nil {
				return err
			}
			p, err := newProvider(ctx, "demo-load", &k)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, flush(ctx, p)) }()
			c, err := newClient(client, &k, p, o.concurrency)
			if err != nil {
				return err
			}
			defer c.CloseIdleConnections()
			l := &load{options: o, client: c, target: client.target, log: log}
			l.run(ctx)
			return nil
		},
	}
	client.register(cmd.Flags(), "target", "http://127.0.0.1:8080", "`URL` of the front")
	cmd.Flags().BoolVar(&client.http2, "http2", false, "permit HTTP/2, over TLS only")
	cmd.Flags().Float64Var(&o.rate, "rate", 10, "requests a second")
	cmd.Flags().IntVar(&o.concurrency, "concurrency", 8, "requests at a time, at most")
	cmd.Flags().DurationVar(&o.duration, "duration", 0, "how long (default: until it is told to end)")
	cmd.Flags().Var(&o.mix, "mix", "how often each request is sent, in proportion: of root, order, slow and error")
	cmd.Flags().Int64Var(&o.size, "size", 64<<10, "bytes of the body of an order")
	k.register(cmd.Flags())
	return cmd
}

func (o *loadOptions) check() error {
	switch {
	case !(o.rate > 0 && o.rate <= 1e6):
		return errors.New("--rate is above 0, and at most 1000000")
	case o.concurrency < 1:
		return errors.New("--concurrency is at least 1")
	case o.duration < 0:
		return errors.New("--duration is not below 0")
	case o.size < 0 || o.size > maxSize:
		return fmt.Errorf("--size is from 0 to %d", maxSize)
	}
	return nil
}

// load sends requests at a steady rate.
type load struct {
	options loadOptions
	client  *http.Client
	target  string // URL
	log     *slog.Logger

	sent, failed, late atomic.Uint64
}

// run sends until ctx is done or the time is over, and says how many. What is under way
// when the time is over is answered; what is when ctx is done is given up.
func (l *load) run(ctx context.Context) {
	sending := ctx
	if l.options.duration > 0 {
		var cancel context.CancelFunc
		sending, cancel = context.WithTimeout(ctx, l.options.duration)
		defer cancel()
	}
	due := make(chan string)
	var workers sync.WaitGroup
	for range l.options.concurrency {
		workers.Go(func() {
			for kind := range due {
				l.send(ctx, kind)
			}
		})
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.options.rate))
	defer tick.Stop()
	for sending.Err() == nil {
		select {
		case <-sending.Done():
		case <-tick.C:
			select {
			case due <- l.options.mix.pick(rand.IntN):
			default:
				l.late.Add(1)
			}
		}
	}
	close(due)
	workers.Wait()
	l.log.Info("load has ended", "sent", l.sent.Load(), "failed", l.failed.Load(), "left_out", l.late.Load())
}

// send sends one request and reads its answer. An answer that is an error was asked
// for: only one that does not come has failed.
func (l *load) send(ctx context.Context, kind string) {
	method, path, body := http.MethodGet, "/"+kind, io.Reader(http.NoBody)
	switch kind {
	case "root":
		path = "/"
	case "order":
		method, path = http.MethodPost, path+"?size="+strconv.FormatInt(l.options.size, 10)
		body = bytes.NewReader(make([]byte, l.options.size))
	}
	l.sent.Add(1)
	if err := l.exchange(ctx, method, path, body); err != nil && ctx.Err() == nil {
		l.failed.Add(1)
		l.log.Warn("a request failed", "request", kind, "error", err)
	}
}

func (l *load) exchange(ctx context.Context, method, path string, body io.Reader) error {
	r, err := http.NewRequestWithContext(ctx, method, l.target+path, body)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	answer, err := l.client.Do(r)
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	return nil
}
