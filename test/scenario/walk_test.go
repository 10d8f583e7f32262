//go:build vm

package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const tracefs = "/sys/kernel/tracing"

// walkWitness is ftrace's word on which functions of the walk-through ping ran.
type walkWitness struct {
	plain, options map[string]bool // for a ping without and with IP options
}

// walk pings through the NIC twice while ftrace watches.
func walk(t *testing.T) walkWitness {
	t.Helper()
	dir := filepath.Join(tracefs, "instances", "scenario")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}()
	write(t, dir, "set_ftrace_filter", strings.Join(traceable(t, watched(t)...), "\n"))
	write(t, dir, "current_tracer", "function")
	var w walkWitness
	ping(t, "", hostIP, 1)
	w.plain = functionsSeen(t, dir)
	write(t, dir, "trace", "")
	ping(t, "", hostIP, 1, "-R")
	w.options = functionsSeen(t, dir)
	write(t, dir, "current_tracer", "nop")
	write(t, dir, "set_ftrace_filter", "")
	return w
}

// watched are the functions of the walk-through and those that stand in for them.
func watched(t *testing.T) []string {
	t.Helper()
	names := slices.Clone(walkThrough)
	for _, a := range absent[series(t)] {
		names = append(names, a.instead)
	}
	return names
}

// write sets a file of tracefs.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	flags := os.O_WRONLY | os.O_TRUNC
	f, err := os.OpenFile(filepath.Join(dir, name), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text + "\n"); err != nil {
		t.Errorf("write %q: %v", text, err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("write %q: %v", text, err)
	}
}

// bare takes off what the compiler added to a specialised function's name.
func bare(symbol string) string {
	name, _, _ := strings.Cut(symbol, ".")
	return name
}

// kernelText is what the kernel says of its functions, read once: both files are
// long, and slow to make under emulation.
var kernelText = sync.OnceValues(func() (map[string][]string, error) {
	text := map[string][]string{}
	for key, path := range map[string]string{
		"symbols": "/proc/kallsyms", "traceable": filepath.Join(tracefs, "available_filter_functions"),
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if key == "symbols" {
				f = f[2:]
			}
			if !strings.Contains(f[0], ".cold") {
				text[key+" "+bare(f[0])] = append(text[key+" "+bare(f[0])], f[0])
			}
		}
	}
	return text, nil
})

// symbols are those of kallsyms with one of these names, and traceable those
// that ftrace can trace; specialised ones included.
func symbols(t *testing.T, names ...string) []string   { return fromKernel(t, "symbols", names) }
func traceable(t *testing.T, names ...string) []string { return fromKernel(t, "traceable", names) }

func fromKernel(t *testing.T, key string, names []string) []string {
	t.Helper()
	text, err := kernelText()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range names {
		found = append(found, text[key+" "+name]...)
	}
	return found
}

// pingLine is a call that ping itself made: its third flag is a dot, since no
// interrupt had it. The kernel's own packets, like a router solicitation on the
// veth pair, pass other functions meanwhile, also on top of ping.
// https://docs.kernel.org/trace/ftrace.html#latency-trace-format
var pingLine = regexp.MustCompile(`(?m)^ *ping-\d+ +\[\d+\] +\S\S\.\S* +[\d.]+: (\S+) <-`)

func functionsSeen(t *testing.T, dir string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for _, match := range pingLine.FindAllStringSubmatch(readText(t, filepath.Join(dir, "trace")), -1) {
		seen[bare(match[1])] = true
	}
	if len(seen) < 10 {
		t.Errorf("ftrace saw ping call only %v:\n%s", seen, readText(t, filepath.Join(dir, "trace")))
	}
	return seen
}

func checkWalk(t *testing.T, tr *traffic) {
	lsm := readText(t, "/sys/kernel/security/lsm")
	if !strings.Contains(lsm, "apparmor") {
		t.Errorf("AppArmor is off: %s", lsm)
	}
	sent := where(between(tr.journeys, guestIP, hostIP), func(j *journey) bool { return j.root.name == "packet tx icmp" })
	if len(sent) != 2 {
		t.Fatalf("%d traces of requests to %s, want 2", len(sent), hostIP)
	}
	want := passage{
		Name: "packet tx icmp", Source: guestIP, Target: hostIP, Network: "ipv4", Direction: "transmit",
		Interfaces: []string{"eth0"}, NetNS: []string{firstNS(t)},
	}
	listing := run(t, "functions", "--backend", tr.summary.Backend)
	for i, seen := range []map[string]bool{tr.witness.plain, tr.witness.options} {
		checkPassage(t, sent[i], want)
		checkPath(t, sent[i], seen, listing.stdout)
	}
	if names := sent[1].functions(); !slices.Contains(names, "ip_options_build") && tr.witness.options["ip_options_build"] {
		t.Errorf("the ping with options lacks ip_options_build: %v", names)
	}
	checkReplies(t, tr, want)
	checkQueues(t, tr)
}

// leavesOut says that the kernel may have left probes out: where an interrupt comes while
// one runs, it does so with those of all that the interrupt does, and counts them where
// programs are not on perf events.
func (o *outcome) leavesOut() bool {
	return o.summary.Backend == "kprobe" || o.summary.KernelLost["recursion_missed"] > 0
}

// checkReplies expects the way of the replies, of which one at least is whole: the card's
// interrupt may come while a probe runs.
func checkReplies(t *testing.T, tr *traffic, want passage) {
	want.Name, want.Source, want.Target, want.Direction = "packet rx icmp", hostIP, guestIP, "receive"
	whole := 0
	for _, j := range echoes(tr.journeys, hostIP, guestIP, 0) {
		if tr.leavesOut() && (j.root.name == "packet icmp" || passageOf(j).Interfaces == nil) {
			t.Logf("left out: the begin of %s", j)
			continue
		}
		whole++
		checkPassage(t, j, want)
	}
	if whole == 0 {
		t.Errorf("no whole trace of a reply from %s", hostIP)
	}
}

// checkPath holds one tree against the walk-through: the functions in their
// order, and a verified reason for each that is not there.
func checkPath(t *testing.T, j *journey, seen map[string]bool, listing string) {
	t.Helper()
	got := make([]string, 0, len(j.spans))
	for _, name := range j.functions() {
		got = append(got, bare(name))
	}
	var present []string
	for _, name := range walkThrough {
		entry, listed := absent[series(t)][name]
		if name == "ip_options_build" && !seen[name] {
			listed, entry = true, absence{why: uncalled, reason: "the packet has no options"}
		}
		switch {
		case slices.Contains(got, name) && listed:
			t.Errorf("%s has %s, which the table calls absent: %s", j, name, entry.reason)
		case slices.Contains(got, name):
			present = append(present, name)
		case !listed:
			t.Errorf("%s lacks %s (%s)", j, name, describe(t, name, seen, listing))
		default:
			if problem := refute(t, name, entry, seen, listing); problem != "" {
				t.Errorf("%s is absent because %s: %s", name, entry.reason, problem)
			}
			if entry.instead != "" {
				present = append(present, entry.instead)
			}
		}
	}
	if first := missingInOrder(got, present); first != "" {
		t.Errorf("%s lacks %s in the order\n%v: %v (%s)", j, first, present, got, describe(t, first, seen, listing))
	}
	if len(j.root.children) == 0 || len(present) < 15 {
		t.Errorf("%s shows only %v", j, got)
	}
}

// skipped finds the line of `otel-kprobe functions` that says why not.
func skipped(name, listing string) string {
	_, rest, _ := strings.Cut(listing, "\nSKIPPED")
	for line := range strings.Lines(rest) {
		if f := strings.Fields(line); len(f) > 2 && bare(f[0]) == name {
			return strings.Join(f[2:], " ")
		}
	}
	return ""
}

// describe says all that is known of a function that should be there.
func describe(t *testing.T, name string, seen map[string]bool, listing string) string {
	t.Helper()
	return fmt.Sprintf("kallsyms: %v, traceable: %v, ftrace saw it: %v, skipped because: %q",
		symbols(t, name), traceable(t, name), seen[name], skipped(name, listing))
}

// refute returns "" when the kernel bears an absence out.
func refute(t *testing.T, name string, a absence, seen map[string]bool, listing string) string {
	t.Helper()
	var holds bool
	switch a.why {
	case missing:
		holds = len(symbols(t, name)) == 0
	case uncalled:
		holds = len(traceable(t, name)) > 0 && !seen[name]
	}
	if holds {
		return ""
	}
	return "but " + describe(t, name, seen, listing)
}

// checkQueues shows the choice of a queue where there is one: on the veth pair.
func checkQueues(t *testing.T, tr *traffic) {
	t.Helper()
	queues, err := filepath.Glob("/sys/class/net/eth0/queues/tx-*")
	if err != nil || len(queues) != 1 {
		t.Errorf("eth0 has the queues %v (%v): the table says one", queues, err)
	}
	order := traceableInOrder(t, "netdev_core_pick_tx", "netdev_pick_tx", "__get_xps_queue_idx")
	for _, j := range echoes(tr.journeys, leftIP, rightIP, 8) {
		if first := missingInOrder(j.functions(), order); first != "" {
			t.Errorf("%s lacks %s in the order %v: %v", j, first, order, j.functions())
		}
	}
}

// traceableInOrder leaves out what this kernel has inlined.
func traceableInOrder(t *testing.T, names ...string) []string {
	t.Helper()
	return slices.DeleteFunc(names, func(name string) bool { return len(traceable(t, name)) == 0 })
}
