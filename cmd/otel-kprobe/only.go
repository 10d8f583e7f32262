package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// onlyRules say which traces are exported: those that any of the rules wants, all
// when there is none. A trace is judged when it is complete.
type onlyRules struct {
	drops  bool   // an skb of the packet was dropped
	errors bool   // the root has status Error
	slow   bool   // it took at least slowNs
	slowNs uint64 // as long as the root; of a request from issue to completion

	correlated bool // the root names a span of an application that is sampled
}

// parseOnly reads --only.
func parseOnly(rules []string) (o onlyRules, err error) {
	for _, rule := range rules {
		switch name, value, valued := strings.Cut(rule, "="); {
		case rule == "drops":
			o.drops = true
		case rule == "errors":
			o.errors = true
		case rule == "correlated":
			o.correlated = true
		case name == "slow" && valued:
			least, err := time.ParseDuration(value)
			if err != nil || least <= 0 {
				return o, fmt.Errorf("read --only: %q is no time above 0 that a trace could take; write slow=1ms", rule)
			}
			o.slow, o.slowNs = true, uint64(least)
		default:
			return o, fmt.Errorf("read --only: %q is none of drops, errors, slow=TIME, correlated", rule)
		}
	}
	return o, nil
}

// any says whether there are rules at all.
func (o onlyRules) any() bool { return o.drops || o.errors || o.slow || o.correlated }

// checkOfBlock refuses what can't be true of a block request.
func (o onlyRules) checkOfBlock() error {
	if o.drops {
		return errors.New("read --only: block requests are not dropped; use errors, slow=TIME or correlated")
	}
	return nil
}

// want says whether a trace is to be exported, whatever its packets ask for.
func (o onlyRules) want(t *spans.Trace) bool {
	root := t.Root()
	switch {
	case !o.any():
		return true
	case root == nil:
		return false
	}
	return o.drops && t.DropSpan >= 0 || o.errors && root.Error ||
		o.slow && root.ExitMonoNs-root.EnterMonoNs >= o.slowNs || o.correlated && t.Correlated && !t.CorrelatedByWire
}

// chooser applies the rules, and counts what they do not want.
type chooser struct {
	onlyRules
	wire spans.Budget // of traces that only their packets correlate
	// passedOver counts traces, framesPassedOver the frames of packets among them, and
	// wirePassedOver those that would have been exported but for the budget.
	passedOver, framesPassedOver, wirePassedOver uint64
}

func newChooser(o onlyRules) chooser {
	return chooser{onlyRules: o, wire: spans.NewBudget(spans.WireTracesPerSecond)}
}

// choose says whether a trace is to be exported.
func (c *chooser) choose(t *spans.Trace) bool {
	if c.want(t) {
		return true
	}
	if c.correlated && t.CorrelatedByWire {
		if c.wire.Take(t.ExitMonoNs) {
			return true
		}
		c.wirePassedOver++
	}
	c.passedOver++
	if !t.Block {
		c.framesPassedOver += uint64(len(t.Spans) - 1 - t.Waits)
	}
	return false
}
