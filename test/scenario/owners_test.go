//go:build vm

package scenario

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The cgroups of TestOwners, named as Docker and as the kubelet with containerd
// name them below systemd.
const (
	ownersPodUID   = "6f8a2d3e-0000-4000-8000-1b2c3d4e5f60"
	ownersPodSlice = "/kubepods.slice/kubepods-pod6f8a2d3e_0000_4000_8000_1b2c3d4e5f60.slice"
)

var (
	dockerID     = strings.Repeat("d0", 32)
	podID        = strings.Repeat("c1", 32)
	dockerCgroup = "/docker-" + dockerID + ".scope"
	podCgroup    = ownersPodSlice + "/cri-containerd-" + podID + ".scope"
)

const (
	ownersTCP = "7301"
	ownersUDP = "7302"
)

// owner is who a packet belongs to, as its spans say.
type owner struct {
	pid                                 int64
	comm, exe, cgroup, container, podID string
}

// ownerOf reads the attributes of a root or of an event; pid is -1 without one.
func ownerOf(s *span) owner {
	return owner{
		pid: s.number("process.pid"), comm: s.text("thread.name"), exe: s.text("process.executable.name"),
		cgroup: s.text(keyCgroup), container: s.text("container.id"), podID: s.text("k8s.pod.uid"),
	}
}

// unlike compares owners. The executable of a process that exits soon is known
// only if otel-kprobe was quick enough.
func unlike(want, got owner) string {
	if got.exe == "" {
		want.exe = ""
	}
	return gocmp.Diff(want, got, gocmp.AllowUnexported(owner{}))
}

func inDocker(pid int64, comm string) owner {
	return owner{pid: pid, comm: comm, exe: comm, cgroup: dockerCgroup, container: dockerID}
}

func inPod(pid int64, comm string) owner {
	return owner{pid: pid, comm: comm, exe: comm, cgroup: podCgroup, container: podID, podID: ownersPodUID}
}

// owned is a journey with its event `receive`, nil without one.
type owned struct {
	*journey
	receive *span
}

func readOwned(t *testing.T, path string) []owned {
	t.Helper()
	var all []owned
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		o := owned{journey: j}
		for _, e := range eventsOf(spans)[j.root.id] {
			if e.name == "receive" {
				o.receive = &span{attrs: e.attrs}
			}
		}
		all = append(all, o)
	})
	return all
}

// addCgroup makes a cgroup and those above it, and removes those that it made.
func addCgroup(t *testing.T, path string) {
	t.Helper()
	dir := cgroupRoot
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); os.IsExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		made := dir
		t.Cleanup(func() { removeCgroup(t, made) })
	}
}

// removeCgroup waits for the last process of a cgroup: it is there until it has
// been taken apart.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	err := os.Remove(dir)
	for range 50 {
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
		err = os.Remove(dir)
	}
	t.Error(err)
}

// launchIn starts a program in a cgroup and a namespace, "" for the first. `ip
// netns exec` becomes the program, so that its process id is the program's.
func launchIn(t *testing.T, cgroup, ns string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(cgroupRoot + cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if ns != "" {
		args = append([]string{"ip", "netns", "exec", ns}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// runIn is launchIn to the end, which must be good, and gives the process id.
func runIn(t *testing.T, cgroup, ns string, args ...string) int64 {
	t.Helper()
	cmd := launchIn(t, cgroup, ns, args...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return int64(cmd.Process.Pid)
}

// awaitListener waits until a TCP port is listened on in right.
func awaitListener(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if must(t, "ip", "netns", "exec", rightNS, "ss", "-Hltn", "sport = :"+port) != "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens on port %s", port)
		}
	}
}

// TestOwners has processes in containers send and receive, one of which exits at
// once, and expects each packet to be its socket's owner's, also where a soft
// interrupt on top of somebody else sent or received it.
func TestOwners(t *testing.T) {
	addCgroup(t, dockerCgroup)
	addCgroup(t, podCgroup)
	// So that a datagram is delivered when the process that sent it is gone.
	must(t, "modprobe", "sch_netem")
	tr := start(t, "tcp port "+ownersTCP+" or udp port "+ownersUDP+" or icmp")

	server := launchIn(t, podCgroup, rightNS, "iperf3", "-s", "-1", "-p", ownersTCP)
	awaitListener(t, ownersTCP)
	client := runIn(t, dockerCgroup, leftNS, "iperf3", "-c", rightIP, "-p", ownersTCP, "-n", "20K")
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
	receiver := udpEcho(t, "udp4", rightIP+":"+ownersUDP)
	must(t, "ip", "netns", "exec", leftNS, "tc", "qdisc", "add", "dev", leftIf, "root", "netem", "delay", "200ms")
	t.Cleanup(func() { must(t, "ip", "netns", "exec", leftNS, "tc", "qdisc", "del", "dev", leftIf, "root") })
	sender := runIn(t, dockerCgroup, leftNS, "bash", "-c", "echo hello >/dev/udp/"+rightIP+"/"+ownersUDP)
	time.Sleep(3 * time.Second) // until it has come and is answered, also where the host is busy
	if err := receiver.Close(); err != nil {
		t.Error(err)
	}
	pinger := runIn(t, podCgroup, "", "ping", "-q", "-c", "1", "-W", "5", hostIP)
	o := tr.stop(t)
	all := readOwned(t, o.output())

	t.Run("TCP", func(t *testing.T) {
		checkOwnedTCP(t, all, inDocker(client, "iperf3"), inPod(int64(server.Process.Pid), "iperf3"))
	})
	t.Run("process that exits at once", func(t *testing.T) { checkOwnedDatagram(t, all, sender) })
	t.Run("received from outside", func(t *testing.T) { checkOwnedReply(t, all, inPod(pinger, "ping")) })
	t.Run("answer of the kernel", func(t *testing.T) { checkKernelsOwn(t, all) })
}

// checkOwnedTCP expects every segment of two processes to be their own. A SYN,ACK
// is sent by a soft interrupt in the client's thread, so the thread of its first
// frame is not its owner's.
func checkOwnedTCP(t *testing.T, all []owned, client, server owner) {
	const fin, syn, ack = 1, 2, 16
	seen, interrupted, executables := map[string]int{}, 0, 0
	for _, j := range all {
		if j.root.name != "packet tx tcp" {
			continue
		}
		flags := j.root.number("otel_kprobe.tcp.flags")
		from, to, name := client, server, "client"
		if j.root.text("source.address") == rightIP {
			from, to, name = server, client, "server"
		}
		if got := ownerOf(j.root); got.pid < 0 && flags == ack {
			continue // of a connection in TIME_WAIT, which is no socket any more
		} else if diff := unlike(from, got); diff != "" {
			t.Errorf("%s, flags %d: sender (-want +got):\n%s", j, flags, diff)
		}
		if ownerOf(j.root).exe != "" {
			executables++
		}
		if flags == syn|ack && j.spans[0].number("thread.id") != from.pid {
			interrupted++
		}
		if j.receive == nil && flags&^(ack|fin) == 0 {
			continue // to a connection in TIME_WAIT
		}
		seen[name]++
		if j.receive == nil {
			t.Errorf("%s, flags %d, has no receiver", j, flags)
		} else if diff := unlike(to, ownerOf(j.receive)); diff != "" {
			t.Errorf("%s, flags %d: receiver (-want +got):\n%s", j, flags, diff)
		}
	}
	if seen["client"] < 10 || seen["server"] < 10 {
		t.Errorf("segments: %v, want ten and more of each side", seen)
	}
	if executables == 0 {
		t.Error("no executable is known, though the server runs for seconds")
	}
	if interrupted == 0 {
		t.Error("no SYN,ACK was sent while another thread was current: this test shows less than it should")
	}
}

// checkOwnedDatagram expects the sender of a datagram, and who received it after
// the sender had ended.
func checkOwnedDatagram(t *testing.T, all []owned, sender int64) {
	var found []owned
	for _, j := range all {
		if j.root.number("destination.port") == 7302 {
			found = append(found, j)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d datagrams, want 1", len(found))
	}
	j := found[0]
	if diff := unlike(inDocker(sender, "bash"), ownerOf(j.root)); diff != "" {
		t.Errorf("%s: sender (-want +got):\n%s", j, diff)
	}
	if j.receive == nil {
		t.Fatalf("%s has no receiver", j)
	}
	// This test itself, which is in no cgroup but the root, or in the harness's.
	if got := ownerOf(j.receive); got.pid != int64(os.Getpid()) || got.container != "" {
		t.Errorf("%s: receiver %+v, want process %d in no container", j, got, os.Getpid())
	}
}

func checkOwnedReply(t *testing.T, all []owned, want owner) {
	var found []owned
	for _, j := range all {
		if j.root.text("source.address") == hostIP && j.root.number("otel_kprobe.icmp.type") == 0 {
			found = append(found, j)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d echo replies of %s, want 1", len(found), hostIP)
	}
	if found[0].root.name != "packet rx icmp" {
		t.Errorf("the reply is a %q, want packet rx icmp", found[0].root.name)
	}
	if diff := unlike(want, ownerOf(found[0].root)); diff != "" {
		t.Errorf("%s: owner (-want +got):\n%s", found[0], diff)
	}
}

// checkKernelsOwn expects that nobody owns what the kernel sends by itself, though
// it does so in a soft interrupt on top of the process that it answers to. The
// echo server's answer to the datagram came to a closed port.
func checkKernelsOwn(t *testing.T, all []owned) {
	for _, j := range all {
		if j.root.text("source.address") != leftIP || j.root.number("otel_kprobe.icmp.type") != 3 {
			continue
		}
		if got := ownerOf(j.root); got != (owner{pid: -1}) {
			t.Errorf("%s belongs to %+v, want nobody", j, got)
		}
		return
	}
	t.Error("there is no answer that the port is closed")
}

// TestOwnerFilters has packets of three processes in two cgroups, and expects
// those of the one that is in the cgroup and has the name: sent ones from their
// first function on, received ones from the one that knows their socket.
func TestOwnerFilters(t *testing.T) {
	addCgroup(t, dockerCgroup)
	addCgroup(t, podCgroup)
	tr := start(t, "--filter-cgroup", ownersPodSlice, "--filter-process", "bash")
	server := echoLines(t)
	talk := func(port string) string {
		return "exec 3<>/dev/tcp/" + rightIP + "/" + port + "; echo hello >&3; read -t 10 line <&3; [[ $line == hello ]]"
	}
	wanted := runIn(t, podCgroup, leftNS, "bash", "-c", talk(server))
	runIn(t, dockerCgroup, leftNS, "bash", "-c", talk(server))
	runIn(t, podCgroup, leftNS, "ping", "-q", "-c", "1", "-W", "5", rightIP)
	o := tr.stop(t)

	names := map[string]int{}
	for _, j := range readOwned(t, o.output()) {
		names[j.root.name]++
		got := ownerOf(j.root)
		if got.exe = ""; got != (owner{pid: wanted, comm: "bash", cgroup: podCgroup, container: podID, podID: ownersPodUID}) {
			t.Errorf("%s belongs to %+v", j, got)
		}
	}
	// SYN, ACK, data, FIN or RST; and SYN,ACK, ACK, data.
	for _, name := range []string{"packet tx tcp", "packet rx tcp"} {
		if names[name] < 3 {
			t.Errorf("%d of %q, want three or more: %v", names[name], name, names)
		}
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("other packets are followed: %v", names)
	}
}

// echoLines serves two connections in right, a line each, and gives its port.
func echoLines(t *testing.T) string {
	t.Helper()
	var server net.Listener
	err := inNS(rightNS, func() (err error) {
		server, err = net.Listen("tcp4", rightIP+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		defer close(served)
		for range 2 {
			if err := echoLine(server); err != nil {
				served <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = server.Close() // it ends a server that still waits
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return strconv.Itoa(server.Addr().(*net.TCPAddr).Port)
}

func echoLine(server net.Listener) error {
	conn, err := server.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	line := make([]byte, 6)
	if _, err := conn.Read(line); err != nil {
		return fmt.Errorf("read a line: %w", err)
	}
	_, err = conn.Write(line)
	return err
}
