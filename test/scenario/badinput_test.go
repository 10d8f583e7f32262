//go:build vm

package scenario

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestBadInput expects one sentence, the documented status and nothing left.
func TestBadInput(t *testing.T) {
	dir := openDir(t)
	if err := os.WriteFile(dir+"/foreign", []byte("not a recording\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		who  *syscall.Credential
		args []string
		exit int
		says string // part of the sentence
	}{
		{"function that does not exist", nil, []string{"packets", "--filter-func", "no_such_function_.*"}, 2, "no_such_function_"},
		{"function pattern", nil, []string{"packets", "--filter-func", "ip_("}, 2, "--filter-func"},
		{
			"function without an skb that does not exist", nil,
			[]string{"packets", "--filter-func", "ip_rcv", "--non-skb-funcs", "no_such_function_.*"},
			2, "no_such_function_",
		},
		{
			"functions without an skb that take one", nil,
			[]string{"packets", "--filter-func", "ip_rcv", "--non-skb-funcs", "ip_output"},
			2, "--filter-func",
		},
		{"namespace that does not exist", nil, []string{"packets", "--filter-netns", "nowhere"}, 2, "nowhere"},
		{"path that is no namespace", nil, []string{"packets", "--filter-netns", "/etc/passwd"}, 2, "/etc/passwd"},
		{"mark", nil, []string{"packets", "--filter-mark", "red"}, 2, "--filter-mark"},
		{"process that does not exist", nil, []string{"packets", "--filter-process", "4194000"}, 2, "4194000"},
		{"cgroup that does not exist", nil, []string{"packets", "--filter-cgroup", "/no/such/cgroup"}, 2, "/no/such/cgroup"},
		{"cgroup id that does not exist", nil, []string{"packets", "--filter-cgroup", "987654321"}, 2, "987654321"},
		{"interface name", nil, []string{"packets", "--filter-ifname", "an-interface-of-20-c"}, 2, "--filter-ifname"},
		{"filter", nil, []string{"packets", "tcp port"}, 2, "syntax error"},
		{"flag", nil, []string{"packets", "--fliter-func", "ip_rcv"}, 2, "--fliter-func"},
		{"way of correlating", nil, []string{"packets", "--correlate", "guess"}, 2, "--correlate"},
		{"backend", nil, []string{"packets", "--backend", "fentry"}, 2, "fentry"},
		{"ring size", nil, []string{"packets", "--ring-size", "3000000"}, 2, "power of two"},
		{"field that does not exist", nil, []string{"packets", "--filter-func", few, "--skb-fields", "skb->hsah"}, 2, `struct sk_buff has no member "hsah"; did you mean "hash"?`},
		{"output", nil, []string{"packets", "--exporter", "file", "--output", "/no/such/dir/spans"}, 2, "/no/such/dir/spans"},
		{"ready file", nil, []string{"packets", "--ready-file", "/no/such/dir/ready"}, 2, "/no/such/dir/ready"},
		{"summary file", nil, []string{"packets", "--summary-file", "/no/such/dir/summary"}, 2, "/no/such/dir/summary"},
		{"recording", nil, []string{"packets", "--record", "/no/such/dir/recording"}, 2, "/no/such/dir/recording"},
		{"no privilege", nobody, []string{"packets", "icmp"}, 3, "root"},
		{"no privilege to check", nobody, []string{"check"}, 3, "root"},
		{"foreign recording", nil, []string{"replay", dir + "/foreign"}, 2, dir + "/foreign"},
		{"missing recording", nil, []string{"replay", dir + "/missing"}, 2, dir + "/missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := runAs(t, test.who, test.args...)
			checkRefusal(t, o, test.exit, test.says)
			if left := leftBehind(t); left != "" {
				checkClean(t) // it may be on its way
			}
		})
	}
}

// checkRefusal expects a status and one sentence on standard error.
func checkRefusal(t *testing.T, o *outcome, exit int, says string) {
	t.Helper()
	if o.exit != exit {
		t.Errorf("exit status %d, want %d", o.exit, exit)
	}
	if !strings.HasPrefix(o.stderr, "otel-kprobe: ") || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, says) {
		t.Errorf("standard error is not one sentence with %q:\n%s", says, o.stderr)
	}
}

// TestFullDisk expects the loss to be counted when the disk takes no more.
func TestFullDisk(t *testing.T) {
	tr := start(t, "--filter-func", few, "--exporter", "file", "--output", "/dev/full", "icmp")
	ping(t, leftNS, rightIP, pings)
	o := tr.signal(t, syscall.SIGTERM)
	checkSums(t, o, "file")
	checkLoss(t, o, o.summary.Spans)
	checkClean(t)
}

// TestBackendsThatAreMissing expects a kernel without FPROBE or sessions to
// refuse them by name, and one that has them to accept.
func TestBackendsThatAreMissing(t *testing.T) {
	missing := map[string][]string{"5.10": {"multi", "session"}, "6.1": {"multi", "session"}, "6.12": nil, "7.3": nil}
	for _, backend := range missing[series(t)] {
		checkRefusal(t, run(t, "packets", "--backend", backend, "icmp"), 3, backend)
	}
	o := run(t, "check")
	if o.exit != 0 || !strings.Contains(o.stdout, "backend: "+autoBackend[series(t)]+" ") ||
		!strings.HasSuffix(o.stdout, "\nblock requests: can be traced\n") {
		t.Errorf("check: exit status %d, want 0 and backend %s\n%s%s", o.exit, autoBackend[series(t)], o.stdout, o.stderr)
	}
}

// TestLockdown expects the kernel's lockdown to be reported as it is: none in an
// ordinary boot, and, in the boot that kernels.sh makes for this test, one under
// which nothing can be traced.
func TestLockdown(t *testing.T) {
	want := os.Getenv("OTEL_KPROBE_LOCKDOWN")
	if want == "" {
		want = "none"
	}
	state := readText(t, "/sys/kernel/security/lockdown")
	if !strings.Contains(state, "["+want+"]") {
		t.Fatalf("the kernel is in lockdown %s, want %s", state, want)
	}
	check := run(t, "check")
	if want == "none" {
		if check.exit != 0 {
			t.Errorf("check: exit status %d\n%s%s", check.exit, check.stdout, check.stderr)
		}
		return
	}
	if check.exit != 3 || !strings.Contains(check.stdout, want) {
		t.Errorf("check: exit status %d, want 3 and %s\n%s%s", check.exit, want, check.stdout, check.stderr)
	}
	checkRefusal(t, run(t, "packets", "icmp"), 3, "lockdown")
}
