//go:build vm

package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const btfDir = "/sys/kernel/btf"

// TestKernelBTF hides the kernel's types and gives a file that has them instead: to
// choose functions, to load programs and to name drop reasons. The choice is narrowed
// to a module and to the kernel image.
func TestKernelBTF(t *testing.T) {
	dir := t.TempDir()
	types, err := os.ReadFile(filepath.Join(btfDir, "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	own, other := filepath.Join(dir, "own"), filepath.Join(dir, "other")
	for path, data := range map[string][]byte{own: types, other: append(slices.Clone(types), 0)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checkForeignTypes(t, other)
	checkSays(t, own, "session", "can be traced", 0)
	checkModules(t, own)

	must(t, "mount", "-t", "tmpfs", "none", btfDir)
	t.Cleanup(func() { must(t, "umount", btfDir) })
	if err := os.Remove(filepath.Join(btfDir, "vmlinux")); err == nil {
		t.Fatal("the kernel's types are still there")
	}
	if o := run(t, "packets", "--duration", "1s", "icmp"); o.exit != 3 || !strings.Contains(o.stderr, "describes no types") {
		t.Errorf("without types: exit status %d, want 3:\n%s", o.exit, o.stderr)
	}
	checkSays(t, own, "multi", "cannot be traced", 3)
	tr := start(t, "--kernel-btf", own, "--kmods", "vmlinux,veth", "--filter-func", few, "icmp or udp dst port 9998")
	ping(t, leftNS, rightIP, pings)
	datagrams(t, "udp", "10.9.0.2:9998", 1, 0, false)
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)
	if o.summary.Backend == "session" {
		t.Error("backend session needs the kernel's own types")
	}
	all := readJourneys(t, o.output())
	requests := echoes(all, leftIP, rightIP, 8)
	checkEchoes(t, requests, pings, leftToRight("packet tx icmp", leftIP, rightIP, "ipv4"))
	for _, j := range requests {
		want := []string{"ip_output", "dev_hard_start_xmit", "veth_xmit", "ip_rcv", "ip_local_deliver", "icmp_rcv"}
		if diff := gocmp.Diff(want, j.functions()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", j, diff)
		}
	}
	refused := port(all, portClosed)
	if len(refused) != 1 || refused[0].root.text("otel_kprobe.drop.reason") != dropReasons[series(t)].closed {
		t.Errorf("traces of the refused datagram: %v, want one for %s", refused, dropReasons[series(t)].closed)
	}
}

// checkForeignTypes expects types of another kernel to be refused where the kernel
// has its own.
func checkForeignTypes(t *testing.T, file string) {
	t.Helper()
	for _, command := range []string{"packets", "functions", "check"} {
		o := run(t, command, "--kernel-btf", file)
		if o.exit != 2 || !strings.Contains(o.stderr, "describes another kernel than the one that runs") {
			t.Errorf("%s: exit status %d, want 2 and a sentence:\n%s", command, o.exit, o.stderr)
		}
	}
}

// checkSays expects otel-kprobe check to tell what the types in a file make possible:
// the backend that packets takes where the kernel has all that is newest, and whether
// block requests can be traced.
func checkSays(t *testing.T, types, backend, block string, exit int) {
	t.Helper()
	if !slices.Contains([]string{"6.12", "7.3"}, series(t)) {
		backend = "kprobe"
	}
	o := run(t, "check", "--kernel-btf", types)
	for _, want := range []string{" types in " + types + "\n", "\nbackend: " + backend + " (", "\nblock requests: " + block + "\n"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("check does not say %q:\n%s", want, o.stdout)
		}
	}
	if o.exit != exit {
		t.Errorf("check: exit status %d, want %d:\n%s", o.exit, exit, o.stderr)
	}
}

// checkModules expects --kmods to list the functions of one module only.
func checkModules(t *testing.T, types string) {
	t.Helper()
	o := run(t, "functions", "--kernel-btf", types, "--kmods", "veth")
	if o.exit != 0 {
		t.Fatalf("exit status %d\n%s", o.exit, o.stderr)
	}
	var functions []string
	for i, line := range strings.Split(o.stdout, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 { // then come those left out
			break
		}
		if i > 0 && fields[1] != "veth" {
			t.Errorf("not a function of veth: %s", line)
		}
		functions = append(functions, fields[0])
	}
	if !slices.Contains(functions, "veth_xmit") {
		t.Errorf("veth_xmit is not among %v", functions)
	}
	o = run(t, "packets", "--kmods", "veth", "--filter-func", "tcp_.*")
	if want := `module veth has no function that takes an skb, can be probed and matches "tcp_.*"`; o.exit != 2 || !strings.Contains(o.stderr, want) {
		t.Errorf("exit status %d, want 2 and %q:\n%s", o.exit, want, o.stderr)
	}
}
