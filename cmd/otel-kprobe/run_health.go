package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// requestTimeout bounds what one who asks may take for it.
const requestTimeout = 10 * time.Second

// healthListener serves /healthz and /metrics.
type healthListener struct {
	server *http.Server
	done   chan struct{} // closed once it serves no more
}

// health is the answer of /healthz.
type health struct {
	OK       bool              `json:"ok"`
	Sections map[string]string `json:"sections"` // "tracing", or why not
}

// listenHealth listens at an address. An error is the user's to mend.
func listenHealth(address string, m *ownMetrics, state func() health, logger *slog.Logger) (*healthListener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, usageErrorf("listen as health.listen says: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, state()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: requestTimeout}))
	h := &healthListener{
		server: &http.Server{
			Handler: mux, ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout,
			WriteTimeout: 2 * requestTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			logger.Warn("the listener for /healthz and /metrics has ended", "error", err)
		}
	}()
	logger.Info("listening for /healthz and /metrics", "address", l.Addr().String())
	return h, nil
}

func answerHealth(w http.ResponseWriter, state health) {
	w.Header().Set("Content-Type", "application/json")
	if !state.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(state) // who asked has gone
}

// close ends what is being answered, as long as ctx lasts.
func (h *healthListener) close(ctx context.Context) error {
	if h == nil {
		return nil
	}
	if err := h.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("close the listener: %w", errors.Join(err, h.server.Close()))
	}
	<-h.done
	return nil
}

// health says whether every section that is required is traced.
func (s *service) health() health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := health{OK: s.ready, Sections: map[string]string{}}
	for name, enabled := range map[string]bool{
		sectionPackets: s.config.packets != nil, sectionBlock: s.config.block != nil,
	} {
		switch {
		case !enabled:
			continue
		case s.active[name] != nil:
			h.Sections[name] = "tracing"
		case s.missing[name] != nil:
			h.Sections[name] = oneLine(s.missing[name].Error())
			h.OK = h.OK && !s.config.required(name)
		default:
			h.Sections[name] = "not yet"
			h.OK = false
		}
	}
	return h
}
