//go:build vm

package scenario

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// receiver is an OTLP/gRPC server that keeps what it gets.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	server *grpc.Server
	port   int64
	first  chan struct{} // closed when the first request is here

	mu     sync.Mutex
	traces []string // trace ids of the spans, one for each span
}

func (r *receiver) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.traces) == 0 {
		close(r.first)
	}
	for _, resource := range request.Traces().ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, s := range scope.Spans().All() {
				r.traces = append(r.traces, s.TraceID().String())
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.traces))
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	return startReceiverAt(t, "127.0.0.1:0")
}

func startReceiverAt(t *testing.T, address string) *receiver {
	t.Helper()
	r := &receiver{first: make(chan struct{})}
	s := serveOTLP(t, address, r)
	r.server, r.port = s.server, s.port
	return r
}

// otlpServer takes spans until the test ends.
type otlpServer struct {
	server *grpc.Server
	port   int64
}

func serveOTLP(t *testing.T, address string, handler ptraceotlp.GRPCServer) otlpServer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := otlpServer{grpc.NewServer(), int64(l.Addr().(*net.TCPAddr).Port)}
	ptraceotlp.RegisterGRPCServer(s.server, handler)
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (r *receiver) endpoint() string { return "--otlp=127.0.0.1:" + strconv.FormatInt(r.port, 10) }

// TestOwnTraffic sends spans over loopback, where they match the filter
// themselves, and expects no trace of them: each would make more.
func TestOwnTraffic(t *testing.T) {
	r := startReceiver(t)
	tr := start(t, r.endpoint(), "--exporter", "otlp,file", "--output", "DIR/spans.jsonl", "tcp")
	exchange(t, "", "", net.JoinHostPort(loopbackIP, strconv.Itoa(portLoop)), tcpSize)
	<-r.first // so that packets with spans have passed while probes are attached
	exchange(t, "", "", net.JoinHostPort(loopbackIP, strconv.Itoa(portLoop)), tcpSize)
	o := tr.stop(t)
	checkSums(t, o, "otlp")
	all := readJourneys(t, o.output())
	if own := port(all, r.port); len(own) > 0 {
		t.Errorf("%d traces are of our own connection: %v", len(own), own)
	}
	if n := len(port(all, portLoop)); n < 14 {
		t.Errorf("%d traces of two connections, want at least 14", n)
	}
	var sent []string
	for _, j := range all {
		for range 1 + len(j.spans) + len(j.waits) {
			sent = append(sent, j.id)
		}
	}
	slices.Sort(sent)
	if diff := gocmp.Diff(sent, r.received()); diff != "" {
		t.Errorf("spans in the file and at the receiver differ (-file +received):\n%s", diff)
	}
}

// TestRefusingCollector expects the count of spans that nobody took.
func TestRefusingCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil { // now nothing listens there
		t.Fatal(err)
	}
	tr := start(t, "--filter-func", few, "--otlp="+address, "--exporter", "otlp", "icmp")
	ping(t, leftNS, rightIP, pings)
	time.Sleep(settle)
	o := tr.signal(t, syscall.SIGTERM)
	if o.summary.Spans == 0 {
		t.Error("no span was made")
	}
	checkSums(t, o, "otlp")
	checkLoss(t, o, o.summary.Spans)
}

// TestDyingCollector expects what came after the collector's end to be counted.
func TestDyingCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	r := startReceiver(t)
	tr := start(t, "--filter-func", few, r.endpoint(), "--exporter", "otlp", "icmp")
	ping(t, leftNS, rightIP, pings)
	<-r.first
	r.server.GracefulStop() // what it took it has answered: both sides know
	ping(t, leftNS, rightIP, pings)
	time.Sleep(settle)
	o := tr.signal(t, syscall.SIGTERM)
	checkSums(t, o, "otlp")
	got := uint64(len(r.received()))
	if got == 0 || got >= o.summary.Spans {
		t.Errorf("the collector got %d of %d spans", got, o.summary.Spans)
	}
	checkArrived(t, o, got)
	checkLoss(t, o, o.summary.Spans-o.summary.Exporters[0].Exported)
}

// lateSpans are as many as can be on their way when a receiver comes or goes: two
// messages, as many as the tracer sends at a time.
const lateSpans = 2 * 2048

// checkArrived holds the exporter's count to what its receiver got. A message whose
// last try reaches the receiver may run out of time before the answer is there: it
// failed, though it arrived.
func checkArrived(t *testing.T, o *outcome, arrived uint64) {
	t.Helper()
	e := o.summary.Exporters[0]
	if arrived < e.Exported || arrived > e.Exported+min(e.Failed, lateSpans) {
		t.Errorf("%d spans arrived; %+v", arrived, e)
	}
}

// checkLoss expects exit status 4 and one sentence with the count.
func checkLoss(t *testing.T, o *outcome, lost uint64) {
	t.Helper()
	var sentence []string
	for line := range strings.Lines(o.stderr) {
		if strings.HasPrefix(line, "otel-kprobe: ") {
			sentence = append(sentence, line)
		}
	}
	want := "lost " + strconv.FormatUint(lost, 10) + " spans"
	if o.exit != 4 || len(sentence) != 1 || !strings.Contains(sentence[0], want) {
		t.Errorf("exit status %d, want 4 and one sentence with %q\n%s", o.exit, want, o.stderr)
	}
}
