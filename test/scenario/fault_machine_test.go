//go:build vm

package scenario

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

const (
	portClock = 7310 // and one more for each phase
	portCPU   = 7320
	portDummy = 7321
)

// clockStep is by how much the clock is stepped, a difference that no delay explains.
const clockStep = time.Hour

// stepNoticed is after how long a step has been noticed at the latest.
const stepNoticed = time.Second

// phase is a time between two steps of the clock, in which one datagram was sent and
// one request made.
type phase struct{ fromUnixNs, toUnixNs int64 }

func (p phase) took() time.Duration { return time.Duration(p.toUnixNs - p.fromUnixNs) }

// TestFaultClock steps the host's clock an hour ahead, an hour back and back again.
// What begins after a step has the new time, what was under way keeps the old one, and
// no duration knows of it.
func TestFaultClock(t *testing.T) {
	keepClock(t)
	disk, dir := scratch(t), t.TempDir()
	s := &service{config: filepath.Join(dir, "otel-kprobe.yaml")}
	file := serviceFile("udp and portrange 7310-7319", "", dir, string(disk))
	file = strings.Replace(file, "packets:\n", "packets:\n  filter_func: "+faultFunctions+"\n", 1)
	if err := os.WriteFile(s.config, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s.tracer = launchCommand(t, "run", "--config", s.config)
	s.waitReady(t)

	var phases []phase
	var held []time.Duration // how long a datagram lay in its socket while the clock was stepped
	for i, by := range []time.Duration{clockStep, -2 * clockStep, clockStep, 0} {
		server := listenLoop(t, portClock+i)
		client := dialLoop(t, portClock+i)
		p := phase{fromUnixNs: unixNs()}
		writeDirect(t, disk.node(), uint64(8*i), 4096)
		if _, err := client.Write([]byte("held")); err != nil {
			t.Fatal(err)
		}
		sent := time.Now()
		p.toUnixNs = unixNs()
		phases = append(phases, p)
		if by != 0 {
			stepClock(t, by)
			time.Sleep(stepNoticed)
		}
		if _, _, err := server.ReadFrom(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		held = append(held, time.Since(sent)) // by the monotonic clock
	}
	s.stop(t)
	checkPhases(t, filepath.Join(dir, "spans.jsonl"), phases, held)
}

// checkPhases expects the datagram and the request of each phase to begin within it, by
// the clock of then, and a datagram to last as long as it lay in its socket.
func checkPhases(t *testing.T, path string, phases []phase, held []time.Duration) {
	t.Helper()
	packets, requests := make([]int, len(phases)), make([]int, len(phases))
	eachTrace(t, path, func(j *journey, _ ptrace.SpanSlice) {
		packet := j.root.attrs["otel_kprobe.journey"] != nil
		i, count := int(j.root.number(keySector)/8), requests
		if packet {
			i, count = int(j.root.number("destination.port"))-portClock, packets
			for _, problem := range j.problems() {
				t.Errorf("%s: %s", j, problem)
			}
		}
		if i < 0 || i >= len(phases) {
			t.Errorf("%s is of no phase", j)
			return
		}
		count[i]++
		if p, start := phases[i], int64(j.root.start); start < p.fromUnixNs-clockSlackNs || start > p.toUnixNs+clockSlackNs {
			t.Errorf("phase %d: %s begins %v after its phase began, which took %v",
				i, j, time.Duration(start-p.fromUnixNs), p.took())
		}
		lasted, most := time.Duration(j.root.end-j.root.start), held[i]+phases[i].took()
		t.Logf("phase %d: %s lasted %v of %v", i, j.root.name, lasted, most)
		if lasted <= 0 || lasted > most {
			t.Errorf("phase %d: %s lasted %v, and all together took %v", i, j, lasted, most)
		}
		if packet && i < len(phases)-1 && lasted < stepNoticed {
			t.Errorf("phase %d: %s lasted %v, and lay in its socket for %v", i, j, lasted, held[i])
		}
	})
	for i := range phases {
		if packets[i] != 1 || requests[i] != 1 {
			t.Errorf("phase %d: %d packets and %d requests, want one each", i, packets[i], requests[i])
		}
	}
}

// clockSlackNs is how far a measured offset of the clocks may be off.
const clockSlackNs = int64(time.Millisecond)

// keepClock sets the clock right again in the end.
func keepClock(t *testing.T) {
	t.Helper()
	before := time.Now()
	t.Cleanup(func() { setClock(t, before.Add(time.Since(before))) })
}

// stepClock moves CLOCK_REALTIME.
func stepClock(t *testing.T, by time.Duration) {
	t.Helper()
	setClock(t, time.Unix(0, unixNs()).Add(by))
}

// unixNs is CLOCK_REALTIME.
func unixNs() int64 { return time.Now().UnixNano() }

func setClock(t *testing.T, at time.Time) {
	t.Helper()
	to := unix.NsecToTimespec(at.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
		t.Fatal(err)
	}
}

// TestFaultMachine takes a processor on- and offline while packets travel, one that was
// offline at the start, and unloads a module of which a function is probed.
func TestFaultMachine(t *testing.T) {
	setOnline(t, false)
	t.Cleanup(func() { setOnline(t, true) })
	loadDummy(t)
	tr := start(t, "--filter-func", faultFunctions, "icmp or udp dst port "+
		strings.Join([]string{itoa(portSteady), itoa(portCPU), itoa(portDummy)}, " or udp dst port "))
	stop := make(chan struct{})
	sent := steady(t, stop)
	for range cpuCycles {
		setOnline(t, true)
		sendFromCPU(t, otherCPU, cpuDatagrams)
		setOnline(t, false)
		time.Sleep(settle)
	}
	setOnline(t, true)
	again := unloadDummy(t)
	ping(t, leftNS, rightIP, pings)
	close(stop)
	steadySent := <-sent
	o := tr.stop(t)
	checkSums(t, o, "file")
	checkNothingLost(t, o)
	all := readJourneys(t, o.output())
	checkEchoes(t, echoes(all, leftIP, rightIP, 8), pings, leftToRight("packet tx icmp", leftIP, rightIP, "ipv4"))
	if n := len(port(all, portSteady)); n != steadySent {
		t.Errorf("%d of %d datagrams are shown", n, steadySent)
	}
	there := where(port(all, portCPU), func(j *journey) bool { return j.spans[0].number("cpu.logical_number") == otherCPU })
	if len(there) != cpuCycles*cpuDatagrams {
		t.Errorf("%d of %d datagrams are shown as sent by processor %d", len(there), cpuCycles*cpuDatagrams, otherCPU)
	}
	checkDummy(t, port(all, portDummy), again)
	must(t, "rmmod", "dummy") // nothing holds it any more
	t.Run("nothing left behind", checkClean)
}

const (
	otherCPU     = 1 // the first one cannot go
	cpuCycles    = 3
	cpuDatagrams = 20
)

func setOnline(t *testing.T, online bool) {
	t.Helper()
	write(t, "/sys/devices/system/cpu/cpu"+itoa(otherCPU), "online", map[bool]string{false: "0", true: "1"}[online])
}

// sendFromCPU sends datagrams from left to right by a thread that is bound to a
// processor.
func sendFromCPU(t *testing.T, cpu, count int) {
	t.Helper()
	err := inNS(leftNS, func() error {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil { // the thread ends with the goroutine
			return err
		}
		conn, err := net.Dial("udp", net.JoinHostPort(rightIP, strconv.Itoa(portCPU)))
		if err != nil {
			return err
		}
		defer conn.Close()
		for sent := 0; sent < count; {
			_, err := conn.Write([]byte("from there"))
			switch {
			case err == nil:
				sent++
			case !errors.Is(err, unix.ECONNREFUSED): // the answer to an earlier one: nothing listens there
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// unloadDummy sends a datagram through the module's function and unloads the module.
// Links to many functions keep their modules, so the kernel refuses
// (get_modules_for_addrs in
// https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/kernel/trace/bpf_trace.c); single kprobes do not, and end with
// the module: then it is loaded and used again.
func unloadDummy(t *testing.T) (again bool) {
	t.Helper()
	sendDummy(t)
	out, err := command("rmmod", "dummy")
	again = autoBackend[series(t)] == "kprobe"
	if refused := err != nil && strings.Contains(out, "in use"); refused == again {
		t.Errorf("rmmod: %v %s", err, out)
	}
	if again {
		loadDummy(t)
		sendDummy(t)
	}
	return again
}

// checkDummy expects the datagram of before to have passed the module's function, and
// that of after, if there is one, to be shown without it.
func checkDummy(t *testing.T, sent []*journey, again bool) {
	t.Helper()
	want := []bool{true}
	if again {
		want = append(want, false)
	}
	var got []bool
	for _, j := range sent {
		got = append(got, len(j.calls("dummy_xmit")) == 1)
		if len(j.calls("dev_hard_start_xmit")) != 1 {
			t.Errorf("%s has not passed dev_hard_start_xmit: %v", j, j.functions())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the datagrams have passed dummy_xmit: %v, want %v", got, want)
	}
}

// loadDummy makes dummy0, to whose network datagrams go without a question.
func loadDummy(t *testing.T) {
	t.Helper()
	must(t, "modprobe", "dummy", "numdummies=0")
	ipBatch(t, "link add dummy0 type dummy\naddr add 10.9.9.1/24 dev dummy0\nlink set dummy0 up\n")
}

func sendDummy(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort("10.9.9.2", strconv.Itoa(portDummy)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("swallowed")); err != nil {
		t.Error(err)
	}
}
