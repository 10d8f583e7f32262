//go:build vm

package scenario

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// appContextsPath is where instrumentation publishes the spans of threads.
const appContextsPath = "/sys/fs/bpf/otel/traces_ctx_v1"

// The spans of the scenario's application are numbered; 0 is none.
const (
	appConnect  = 1
	appReader   = 0xee
	appDatagram = 0xd0
)

// appTrace is the trace of them all.
var appTrace = [16]byte{0xa1, 0xb2, 15: 1}

const (
	portAppTCP = 7311
	portAppUDP = 7312
)

func appAddress(port int) string { return net.JoinHostPort(rightIP, strconv.Itoa(port)) }

// mountBPF mounts the BPF file system where every distribution has it.
func mountBPF(t *testing.T) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		must(t, "mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
	}
}

// appContexts is the map in which a test plays the instrumentation, for spans of one
// trace.
type appContexts struct {
	*ebpf.Map
	trace [16]byte
}

// openAppContexts opens the map that otel-kprobe has made.
func openAppContexts(t *testing.T, trace [16]byte) appContexts {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(appContextsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // nothing is lost with it
	if m.Type() != ebpf.LRUHash || m.MaxEntries() != 16384 || m.KeySize() != 8 || m.ValueSize() != 24 {
		t.Errorf("the map is %v, want an LRU hash of 16384 entries with 8 and 24 bytes", m)
	}
	return appContexts{m, trace}
}

// put says which span a thread is in, 0 for none.
func (c appContexts) put(process, thread int, number byte) error {
	key := uint64(process)<<32 | uint64(thread)
	if number == 0 {
		if err := c.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		return nil
	}
	value := [24]byte{23: number}
	copy(value[:16], c.trace[:])
	return c.Put(key, value)
}

// enter puts the current thread into a span, 0 out of all.
func (c appContexts) enter(number byte) error { return c.put(os.Getpid(), unix.Gettid(), number) }

// appWrite is what the client wrote in one span: bytes of its stream.
type appWrite struct {
	from, to int64
	span     byte
}

// appJourney is a packet with the spans that its root is linked to.
type appJourney struct {
	*journey
	sent, read []byte // numbers of spans, in the order of the links
}

// readApps reads the journeys, and checks what every link to an application must be.
func readApps(t *testing.T, path string) []appJourney {
	t.Helper()
	var all []appJourney
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		a := appJourney{journey: j}
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			id := link.SpanID()
			switch kind.Str() {
			case "sent_by":
				a.sent = append(a.sent, id[7])
			case "read_by":
				a.read = append(a.read, id[7])
			default:
				continue
			}
			if source, _ := link.Attributes().Get("otel_kprobe.app.source"); link.TraceID() != appTrace || source.Str() != "thread" {
				t.Errorf("%s: link to trace %s by %q, want %x by thread", j, link.TraceID(), source.Str(), appTrace)
			}
		}
		a.checkAttributes(t)
		all = append(all, a)
	})
	return all
}

// checkAttributes holds the root's attributes to its first link.
func (a *appJourney) checkAttributes(t *testing.T) {
	t.Helper()
	first := append(append([]byte{}, a.sent...), a.read...)
	trace, span, source := "", "", ""
	if len(first) > 0 {
		trace, span, source = hex.EncodeToString(appTrace[:]), fmt.Sprintf("%016x", first[0]), "thread"
	}
	got := [3]string{a.root.text("otel_kprobe.app.trace_id"), a.root.text("otel_kprobe.app.span_id"), a.root.text("otel_kprobe.app.source")}
	if want := [3]string{trace, span, source}; got != want {
		t.Errorf("%s: application %q, want %q", a, got, want)
	}
}

// appStream connects and writes each size in a span of its own, the last in none.
// The spans are numbered from 2 on. It gives the client's port.
func appStream(t *testing.T, c appContexts, sizes []int) (port int64, writes []appWrite) {
	t.Helper()
	read := appServer(t, c, sizes)
	err := inNS(leftNS, func() error {
		if err := c.enter(appConnect); err != nil {
			return err
		}
		conn, err := net.DialTimeout("tcp", appAddress(portAppTCP), 10*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		port = int64(conn.LocalAddr().(*net.TCPAddr).Port)
		var at int64
		for i, size := range sizes {
			number := byte(i + 2)
			if i == len(sizes)-1 {
				number = 0
			}
			if err := c.enter(number); err != nil {
				return err
			}
			if _, err := conn.Write(make([]byte, size)); err != nil {
				return err
			}
			writes = append(writes, appWrite{at, at + int64(size), number})
			at += int64(size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	return port, writes
}

// appServer reads one connection to its end, in a span.
func appServer(t *testing.T, c appContexts, sizes []int) (done <-chan error) {
	t.Helper()
	var server net.Listener
	err := inNS(rightNS, func() (err error) {
		server, err = net.Listen("tcp", appAddress(portAppTCP))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, size := range sizes {
		total += int64(size)
	}
	result := make(chan error, 1)
	go func() {
		defer server.Close()
		result <- inNS(rightNS, func() error {
			conn, err := server.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := c.enter(appReader); err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, onlyReader{conn})
			if err == nil && n != total {
				err = fmt.Errorf("read %d bytes, want %d", n, total)
			}
			return err
		})
	}()
	return result
}

// onlyReader keeps io.Copy from splicing, which copies nothing to this process.
type onlyReader struct{ io.Reader }

// appDatagrams sends a datagram in a span, and one in none.
func appDatagrams(t *testing.T, c appContexts) {
	t.Helper()
	server := udpEcho(t, "udp", appAddress(portAppUDP))
	defer server.Close()
	err := inNS(leftNS, func() error {
		conn, err := net.Dial("udp", appAddress(portAppUDP))
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, number := range []byte{appDatagram, 0} {
			if err := c.enter(number); err != nil {
				return err
			}
			if _, err := conn.Write([]byte{number}); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
