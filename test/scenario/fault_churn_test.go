//go:build vm

package scenario

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// 500 namespaces with an interface each, some at a time. Each sends a datagram to a
// port of its own.
const (
	churnRounds = 10
	churnEach   = 50
	portChurn   = 20000
)

// churnGrowthKB is by how much the tracer may grow after the first round.
const churnGrowthKB = 24 << 10

// TestFaultChurn makes and deletes interfaces and namespaces while they are traced.
// Numbers of namespaces are used again, so a name that is kept too long is another
// one's.
func TestFaultChurn(t *testing.T) {
	must(t, "modprobe", "dummy", "numdummies=0")
	tr := start(t, "--filter-func", faultFunctions, fmt.Sprintf("udp dst portrange %d-%d", portChurn, portChurn+churnRounds*churnEach-1))
	files, residentKB := tr.openFiles(t), 0
	used := map[int64]int{} // how often a number was a namespace's
	begin := time.Now()
	for round := range churnRounds {
		churn(t, round*churnEach, used)
		if round == 0 {
			residentKB = tr.residentKB(t)
		}
	}
	t.Logf("%d namespaces with %d numbers in %v", churnRounds*churnEach, len(used), time.Since(begin))
	if len(used) == churnRounds*churnEach {
		t.Error("no number of a namespace was used twice: names were not tried")
	}
	ping(t, leftNS, rightIP, pings) // the kernel goes on
	if now := tr.openFiles(t); now > files+2 {
		t.Errorf("%d files are open, %d were before", now, files)
	}
	if grown := tr.residentKB(t) - residentKB; grown > churnGrowthKB {
		t.Errorf("the tracer has grown by %d KiB since the first round", grown)
	}
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)
	checkChurn(t, o)
}

// churn makes namespaces, lets each send, and deletes them.
func churn(t *testing.T, first int, used map[int64]int) {
	t.Helper()
	var add, remove strings.Builder
	for i := first; i < first+churnEach; i++ {
		fmt.Fprintf(&add, "netns add %s\nlink add name %s netns %s type dummy\n", churnNS(i), churnIf(i), churnNS(i))
		fmt.Fprintf(&remove, "netns del %s\n", churnNS(i))
	}
	ipBatch(t, add.String())
	for i := first; i < first+churnEach; i++ {
		used[inodeOf(t, churnNS(i))]++
		if err := inNS(churnNS(i), func() error { return sendThrough(churnIf(i), portChurn+i) }); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(settle) // a trace is named when it is complete
	ipBatch(t, remove.String())
}

func churnNS(i int) string { return "churn" + itoa(i) }
func churnIf(i int) string { return "cd" + itoa(i) }

// ipBatch runs commands of ip in one process.
func ipBatch(t *testing.T, commands string) {
	t.Helper()
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(commands)
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v: %s", err, out)
	}
}

// sendThrough gives a dummy of this namespace an address and sends a datagram to its
// network.
func sendThrough(device string, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr([]byte{10, 0, 0, 1}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_NOARP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return err
	}
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: port})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("churn"))
	return err
}

// checkChurn expects each datagram once, with its interface, and the name of its
// namespace or none. One may lack probes that the kernel left out.
func checkChurn(t *testing.T, o *outcome) {
	t.Helper()
	var got []int64
	all := readJourneys(t, o.output())
	named, spoilt := 0, 0
	for _, j := range all {
		number := j.root.number("destination.port")
		got = append(got, number)
		i := int(number) - portChurn
		switch passed := j.root.list("otel_kprobe.interfaces"); {
		case slices.Equal(passed, []string{churnIf(i)}):
		case passed == nil && o.leavesOut():
			spoilt++
		default:
			t.Errorf("%s passes %v, want %s", j, passed, churnIf(i))
		}
		switch name := j.root.text("otel_kprobe.netns.name"); name {
		case churnNS(i):
			named++
		case "":
		default:
			t.Errorf("%s is said to be in %s, and was in %s", j, name, churnNS(i))
		}
	}
	slices.Sort(got)
	n := len(slices.Compact(got))
	if o.leavesOut() {
		spoilt += churnRounds*churnEach - n
	}
	if n != churnRounds*churnEach && !o.leavesOut() || spoilt > 1 || len(all) != n {
		t.Errorf("%d traces of %d datagrams, want one of each of %d", len(all), n, churnRounds*churnEach)
	}
	if t.Logf("%d of %d have the name of their namespace", named, len(all)); named < len(all)/2 {
		t.Errorf("only %d of %d have the name of their namespace", named, len(all))
	}
}
