package kernel

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Status is the outcome of one check.
type Status string

// The outcomes of a check.
const (
	StatusOK      Status = "ok"
	StatusLimited Status = "limited" // works, at a cost
	StatusMissing Status = "missing"
	StatusUnknown Status = "unknown" // cannot be told without privilege
)

// The names of the findings, in the order in which Check gives them.
const (
	FindingKernel     = "kernel"
	FindingKprobes    = "kprobes"
	FindingBTF        = "BTF"
	FindingModuleBTF  = "module BTF"
	FindingLockdown   = "lockdown"
	FindingPrivileges = "privileges"
	FindingTracefs    = "tracefs"
	FindingMulti      = "FPROBE (kprobe.multi)"
	FindingSession    = "kprobe.session"
	FindingBlock      = "block tracepoints"
	FindingRing       = "ring buffer"
	FindingMemlock    = "locked memory"
	FindingJIT        = "BPF JIT"
	FindingSymbols    = "kernel symbols"
	FindingTimeNS     = "time namespace"
)

// Finding is what one check of the kernel found. Cost and Fix are empty when
// all is well: what its absence costs, and one clause on how to get it.
type Finding struct {
	Name   string
	Status Status
	Detail string
	Cost   string
	Fix    string
}

// The names of the backends that ChooseBackend gives, which are those of
// package probe.
const (
	backendSession = "session"
	backendMulti   = "multi"
	backendKprobe  = "kprobe"
	backendNone    = "none"
)

// required lists the findings without which no packet can be traced, what no
// privilege can change first. The backends are judged apart.
func required() []string {
	return []string{FindingKernel, FindingBTF, FindingLockdown, FindingRing, FindingPrivileges, FindingTracefs, FindingMemlock}
}

// requiredForBlock is the same for block requests: tracepoints that are found
// through BTF need neither tracefs nor kprobes.
func requiredForBlock() []string {
	return []string{FindingKernel, FindingBTF, FindingLockdown, FindingBlock, FindingRing, FindingPrivileges, FindingMemlock}
}

func find(findings []Finding, name string) Finding {
	for _, f := range findings {
		if f.Name == name {
			return f
		}
	}
	return Finding{Name: name, Status: StatusUnknown, Detail: "not checked"}
}

// blocker returns the first finding that makes tracing packets impossible.
func blocker(findings []Finding) (Finding, bool) {
	if f := find(findings, FindingKprobes); f.Status == StatusMissing && find(findings, FindingMulti).Status != StatusOK {
		return f, true
	}
	return firstMissing(findings, required())
}

func firstMissing(findings []Finding, names []string) (Finding, bool) {
	for _, name := range names {
		if f := find(findings, name); f.Status == StatusMissing {
			return f, true
		}
	}
	return Finding{}, false
}

// CannotTrace returns a *CannotTraceError with the first thing that is missing,
// nil when packets can be traced.
func CannotTrace(findings []Finding) error {
	if f, blocked := blocker(findings); blocked {
		return &CannotTraceError{Missing: f.Detail, Fix: f.Fix}
	}
	return nil
}

// CannotTraceBlock is CannotTrace for block requests: it returns nil when those
// can be traced.
func CannotTraceBlock(findings []Finding) error {
	if f, missing := firstMissing(findings, requiredForBlock()); missing {
		return &CannotTraceError{What: "block requests", Missing: f.Detail, Fix: f.Fix}
	}
	return nil
}

// ChooseBackend returns the name of the best backend that works (session,
// multi, kprobe or none) and why it is not a better one.
func ChooseBackend(findings []Finding) (name, why string) {
	if f, blocked := blocker(findings); blocked {
		return backendNone, f.Detail
	}
	session, multi := find(findings, FindingSession), find(findings, FindingMulti)
	switch {
	case session.Status == StatusOK:
		return backendSession, "entry and return in one probe, all functions at once"
	case multi.Status == StatusOK:
		return backendMulti, session.Detail + ": entry and return are two probes, which costs more on each packet"
	default:
		return backendKprobe, multi.Detail + ": functions are attached one by one, only a curated path of them by default"
	}
}

// HasMultiOfModules is true when kprobe.multi finds functions of modules by their names
// (https://git.kernel.org/torvalds/c/3640bf8584f4, Linux 6.2). It needs fewer rights than
// single kprobes: kernel.perf_event_paranoid does not matter to it. What tells is
// kprobe.session, which is newer.
func HasMultiOfModules(findings []Finding) bool {
	return find(findings, FindingSession).Status == StatusOK
}

// CheckBackend returns nil when the named backend works, else a
// *CannotTraceError that says what it lacks. Unknown names give an error, too.
func CheckBackend(findings []Finding, name string) error {
	needs := map[string]string{
		backendSession: FindingSession,
		backendMulti:   FindingMulti,
		backendKprobe:  FindingKprobes,
	}[name]
	if needs == "" {
		return fmt.Errorf("choose backend %q: use auto, session, multi or kprobe", name)
	}
	f := find(findings, needs)
	if f.Status == StatusOK {
		return nil
	}
	return &CannotTraceError{
		Missing: fmt.Sprintf("backend %s does not work, %s", name, f.Detail),
		Fix:     "use --backend auto",
	}
}

// WriteFindings prints the findings as an aligned table; what a finding costs
// and how to mend it stand on lines of their own below it.
func WriteFindings(w io.Writer, findings []Finding) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, f.Status, f.Detail)
		if f.Cost != "" {
			fmt.Fprintf(tw, "\t\tcosts: %s\n", f.Cost)
		}
		if f.Fix != "" {
			fmt.Fprintf(tw, "\t\thow to get it: %s\n", f.Fix)
		}
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
