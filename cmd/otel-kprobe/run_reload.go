package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/config"
)

// reload reads the file again and takes over what can change while it runs. On
// any mistake all stays as it was.
func (s *service) reload(ctx context.Context) {
	changed, err := s.tryReload(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.reloadsFailed++
		s.logger.Error("the configuration is not reloaded: what was in force stays", "error", oneLine(err.Error()))
	case len(changed) == 0:
		s.reloads++
		s.logger.Info("the configuration is reloaded: nothing has changed")
	default:
		s.reloads++
		s.logger.Info("the configuration is reloaded", "changed", strings.Join(changed, " "))
	}
}

func (s *service) tryReload(ctx context.Context) (changed []string, err error) {
	next, err := readServiceConfig(s.flags.config, s.sys.getenv)
	if err != nil {
		return nil, err
	}
	changed = next.file.Changed(s.config.file)
	replace := false
	for _, name := range changed {
		section, key, _ := strings.Cut(name, ".")
		switch {
		case !reloadable(section, key):
			return nil, next.errorf(section, key, "%s cannot change while it runs: restart to apply it", name)
		case section == sectionPackets && key != "only" && key != "required":
			replace = true
		}
	}
	if err := s.apply(ctx, next, changed, replace); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = next
	return changed, nil
}

// reloadable says whether a key takes effect without a restart.
func reloadable(section, key string) bool {
	switch section {
	case sectionPackets:
		return key != "enabled"
	case sectionBlock:
		return key == "only" || key == "required"
	}
	return false
}

// apply lets the parts know. What can fail comes first.
func (s *service) apply(ctx context.Context, next *serviceConfig, changed []string, replace bool) error {
	packets, block := s.active[sectionPackets], s.active[sectionBlock]
	if replace && packets != nil {
		if err := s.replacePackets(ctx, packets, *next.packets); err != nil {
			return err
		}
	} else if packets != nil && slices.Contains(changed, sectionPackets+".only") {
		packets.order(func() { packets.run.judgeBy(next.packets.output.only) })
	}
	if block != nil && slices.Contains(changed, sectionBlock+".only") {
		block.order(func() { block.run.judgeBy(next.block.output.only) })
	}
	return nil
}

// replacePackets attaches a second set of programs, lets it follow the packets that
// begin from a moment on, and lets the first set follow those that began before
// to their end.
func (s *service) replacePackets(ctx context.Context, old *part, settings packetsSettings) error {
	p := s.newPackets(settings)
	if err := p.run.begin(ctx); err != nil {
		return &config.Error{Position: s.config.file.At(sectionPackets, ""), Err: fmt.Errorf("attach anew: %w", err)}
	}
	from := p.run.beginShift(handOverWait)
	old.retire(from)
	s.mu.Lock()
	s.retiring = append(s.retiring, old)
	s.mu.Unlock()
	s.work(ctx, p)
	return nil
}
