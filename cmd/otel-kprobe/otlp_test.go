package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// What a receiver decodes with the usual codec is what the file has.
func TestReplayToCollector(t *testing.T) {
	c := startCollector(t, nil, nil)
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	got := command(t, "replay", "--otlp="+c.address, "--output", path, recordPing)
	want := outcome{Status: exitOK, Stderr: "131 frames, 4 traces, 139 spans; exported 139 to file, 139 to otlp; nothing lost\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	var received []jsonSpan
	for _, s := range c.spans {
		received = append(received, jsonSpan{
			TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()),
			ParentSpanID: hex.EncodeToString(s.GetParentSpanId()), Name: s.GetName(),
			Start: strconv.FormatUint(s.GetStartTimeUnixNano(), 10), End: strconv.FormatUint(s.GetEndTimeUnixNano(), 10),
		})
	}
	if diff := cmp.Diff(readSpans(t, path), received); diff != "" {
		t.Errorf("-file +received:\n%s", diff)
	}
	for _, s := range c.spans {
		if len(s.ProtoReflect().GetUnknown()) > 0 || len(s.GetAttributes()) == 0 {
			t.Fatalf("span %s is not whole: %v", s.GetName(), s)
		}
	}
	resource := c.resources[0]
	if len(resource.ProtoReflect().GetUnknown()) > 0 || resource.GetSchemaUrl() == "" || resource.GetScopeSpans()[0].GetScope().GetName() != modulePath {
		t.Errorf("resource %v", resource)
	}
}

// The variables of the OTLP exporter do what its specification says.
func TestReplayHonoursEnvironment(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string // @ is the collector's address
		args []string
		want func(t *testing.T, c *collector)
	}{
		{name: "endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://@"}},
		{name: "endpoint of traces", env: map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://@",
		}},
		{name: "no scheme", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "//@", "OTEL_EXPORTER_OTLP_INSECURE": "true"}},
		{
			name: "flag before endpoint",
			env:  map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1"},
			args: []string{"--otlp=@"},
		},
		{
			name: "flag without endpoint", args: []string{"--otlp"},
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://@", "OTEL_TRACES_EXPORTER": "console"},
		},
		{
			name: "headers", args: []string{"--otlp=@"},
			env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "tenant=blue,x-general=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "tenant=red%20wine"},
			want: func(t *testing.T, c *collector) {
				if diff := cmp.Diff([]string{"red wine"}, c.headers.Get("tenant")); diff != "" {
					t.Error(diff)
				}
			},
		},
		{
			name: "compression", args: []string{"--otlp=@"}, env: map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
			want: func(t *testing.T, c *collector) {
				if diff := cmp.Diff([]string{"gzip"}, c.compressions); diff != "" {
					t.Error(diff)
				}
			},
		},
		{
			name: "resource", args: []string{"--otlp=@"},
			env: map[string]string{"OTEL_SERVICE_NAME": "edge", "OTEL_RESOURCE_ATTRIBUTES": "service.name=no,deployment.environment.name=lab,host.name=other"},
			want: func(t *testing.T, c *collector) {
				got := map[string]string{}
				for _, a := range c.resources[0].GetResource().GetAttributes() {
					got[a.GetKey()] = a.GetValue().GetStringValue()
				}
				want := map[string]string{
					"deployment.environment.name": "lab", "host.arch": "amd64", "host.name": "other",
					"os.description": "Linux 6.12.107+deb13-cloud-amd64", "os.type": "linux",
					"service.instance.id": "00000000000000000000000000000007", "service.name": "edge", "service.version": version(),
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := startCollector(t, nil, nil)
			for name, value := range c.env {
				t.Setenv(name, strings.ReplaceAll(value, "@", fake.address))
			}
			args := []string{"replay", "--seed", "7"}
			for _, arg := range c.args {
				args = append(args, strings.ReplaceAll(arg, "@", fake.address))
			}
			want := outcome{Status: exitOK, Stderr: summaryTo("otlp")}
			if diff := cmp.Diff(want, command(t, append(args, recordPing)...)); diff != "" {
				t.Error(diff)
			}
			if len(fake.spans) != pingSpans {
				t.Errorf("%d spans arrived", len(fake.spans))
			} else if c.want != nil {
				c.want(t, fake)
			}
		})
	}
}

// A certificate of the environment makes an https endpoint trusted.
func TestReplayOverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate of 127.0.0.1
	certificate := server.TLS.Certificates[0]
	server.Close()
	fake := startCollector(t, &tls.Certificate{Certificate: certificate.Certificate, PrivateKey: certificate.PrivateKey}, nil)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
	if got := command(t, "replay", "--otlp=https://"+fake.address, recordPing); got.Status != exitLostSpans || !strings.Contains(got.Stderr, "certificate") {
		t.Errorf("without its certificate: %+v", got)
	}
	pemFile := write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", pemFile)
	want := outcome{Status: exitOK, Stderr: summaryTo("otlp")}
	if diff := cmp.Diff(want, command(t, "replay", "--otlp=https://"+fake.address, recordPing)); diff != "" {
		t.Error(diff)
	}
}

// Spans that do not arrive are counted, and the last line says how many and why.
func TestReplayLosesSpans(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(n int) (*coltracepb.ExportTraceServiceResponse, error)
		env    map[string]string
		want   string // how the last line begins, with @ for the address
	}{
		{
			"refused for good",
			func(int) (*coltracepb.ExportTraceServiceResponse, error) {
				return nil, status.Error(codes.PermissionDenied, "no such tenant")
			},
			nil,
			"otel-kprobe: lost 139 spans on their way out: OTLP receiver @: PermissionDenied: no such tenant",
		},
		{
			"refused in part",
			func(int) (*coltracepb.ExportTraceServiceResponse, error) {
				return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{
					RejectedSpans: 35, ErrorMessage: "quota",
				}}, nil
			},
			nil,
			"otel-kprobe: lost 35 spans on their way out: OTLP receiver @: receiver rejects spans: quota",
		},
		{
			"not in time",
			func(int) (*coltracepb.ExportTraceServiceResponse, error) {
				time.Sleep(time.Second)
				return nil, nil
			},
			map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "400"},
			"otel-kprobe: lost 139 spans on their way out: OTLP receiver @: DeadlineExceeded: ", // which end gives up first is a race
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			setenv(t, c.env)
			fake := startCollector(t, nil, c.answer)
			got := command(t, "replay", "--otlp="+fake.address, recordPing)
			lines := strings.Split(strings.TrimSuffix(got.Stderr, "\n"), "\n")
			want := strings.ReplaceAll(c.want, "@", fake.address)
			if got.Status != exitLostSpans || !strings.HasPrefix(lines[len(lines)-1], want) {
				t.Errorf("status %d, stderr %q, want a last line that begins %q", got.Status, got.Stderr, want)
			}
			if lines[0][:5] != "level" || len(lines) != 3 {
				t.Errorf("stderr is not a warning, the summary and the error: %q", got.Stderr)
			}
		})
	}
}

// A run dials by itself, where a replay does not, and hears of rejected spans all the
// same.
func TestOTLPClientDials(t *testing.T) {
	fake := startCollector(t, nil, func(int) (*coltracepb.ExportTraceServiceResponse, error) {
		return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{
			RejectedSpans: 35, ErrorMessage: "quota",
		}}, nil
	})
	dialled := false
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		dialled = true
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	client, err := newOTLPClient(t.Context(), "http://"+fake.address, lookup(nil), dial, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	rejected, err := client.upload(t.Context(), [][]byte{nil}, 139)
	if rejected != 35 || err == nil || err.Error() != "receiver rejects spans: quota" || !dialled {
		t.Errorf("%d rejected, %v; dialled: %v", rejected, err, dialled)
	}
	if err := client.close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Nothing listens: status 4 with the count, as soon as the time-out is over.
func TestReplayToNoCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	address, start := freePort(t), time.Now()
	got := command(t, "replay", "--otlp="+address, recordPing)
	want := "otel-kprobe: lost 139 spans on their way out: OTLP receiver " + address + ": Unavailable: "
	if got.Status != exitLostSpans || !strings.Contains(got.Stderr, want) || !strings.Contains(got.Stderr, "connection refused") {
		t.Errorf("%+v", got)
	}
	if took := time.Since(start); took > soon {
		t.Errorf("took %v", took)
	}
}

// A receiver's warning is shown once, and loses nothing.
func TestReplayWarned(t *testing.T) {
	fake := startCollector(t, nil, func(int) (*coltracepb.ExportTraceServiceResponse, error) {
		return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{ErrorMessage: "old schema"}}, nil
	})
	path := write(t, "long.okrec", makeRecording(t, 2000, 2))
	got := command(t, "replay", "--otlp="+fake.address, path)
	if got.Status != exitOK || strings.Count(got.Stderr, `message="old schema"`) != 1 || !strings.Contains(got.Stderr, "exported 6000 to otlp; nothing lost") {
		t.Errorf("%+v", got)
	}
}

// A trace that is larger than a message arrives whole, in several.
func TestReplayBigTrace(t *testing.T) {
	fake := startCollector(t, nil, nil)
	path := write(t, "big.okrec", makeRecording(t, 1, 5000))
	got := command(t, "replay", "--otlp="+fake.address, path)
	want := outcome{Status: exitOK, Stderr: "5000 frames, 1 traces, 5001 spans; exported 5001 to otlp; nothing lost\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if fake.messages < 3 || len(fake.spans) != 5001 || fake.largest > 4<<20 {
		t.Errorf("%d spans in %d messages of up to %d bytes", len(fake.spans), fake.messages, fake.largest)
	}
	ids := make(map[string]bool)
	for _, s := range fake.spans {
		ids[string(s.GetSpanId())] = true
	}
	if len(ids) != 5001 {
		t.Errorf("%d ids", len(ids))
	}
}

// A receiver that stops half-way costs the spans from then on, no more.
func TestReplayCollectorDies(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	dead := status.Error(codes.Unavailable, "going down")
	fake := startCollector(t, nil, func(n int) (*coltracepb.ExportTraceServiceResponse, error) {
		if n > 2 {
			return nil, dead
		}
		return nil, nil
	})
	path := write(t, "long.okrec", makeRecording(t, 4000, 2))
	got := command(t, "replay", "--otlp="+fake.address, path)
	lost := 12000 - len(fake.spans)
	want := "otel-kprobe: lost " + strconv.Itoa(lost) + " spans on their way out: OTLP receiver " + fake.address + ": Unavailable: going down\n"
	if got.Status != exitLostSpans || lost <= 0 || lost >= 12000 || !strings.HasSuffix(got.Stderr, want) {
		t.Errorf("status %d, want %q, stderr %q", got.Status, want, got.Stderr)
	}
	if !strings.Contains(got.Stderr, "exported "+strconv.Itoa(len(fake.spans))+" to otlp; lost: "+strconv.Itoa(lost)+" (otlp failed)") {
		t.Errorf("stderr %q", got.Stderr)
	}
}

// What the receiver asks to be sent again is sent again.
func TestReplayRetries(t *testing.T) {
	if testing.Short() {
		t.Skip("the client waits for seconds before it tries again")
	}
	t.Parallel()
	busy, err := status.New(codes.Unavailable, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	fake := startCollector(t, nil, func(n int) (*coltracepb.ExportTraceServiceResponse, error) {
		if n == 1 {
			return nil, busy.Err()
		}
		return nil, nil
	})
	want := outcome{Status: exitOK, Stderr: summaryTo("otlp")}
	if diff := cmp.Diff(want, command(t, "replay", "--otlp="+fake.address, recordPing)); diff != "" {
		t.Error(diff)
	}
	if fake.messages != 2 || len(fake.spans) != pingSpans {
		t.Errorf("%d messages, %d spans", fake.messages, len(fake.spans))
	}
}

// Variables that the client can't read are named in our log, not left out in
// silence.
func TestReplayBadVariable(t *testing.T) {
	fake := startCollector(t, nil, nil)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "lab")
	got := command(t, "replay", "--otlp="+fake.address, recordPing)
	if got.Status != exitOK || len(fake.spans) != pingSpans {
		t.Errorf("%+v", got)
	}
	for line := range strings.Lines(got.Stderr) {
		if !strings.HasPrefix(line, "level=") && line != summaryTo("otlp") {
			t.Errorf("stderr has %q", line)
		}
	}
	for _, part := range []string{"soon", "OTEL_RESOURCE_ATTRIBUTES is left out"} {
		if !strings.Contains(got.Stderr, part) {
			t.Errorf("stderr %q does not name %q", got.Stderr, part)
		}
	}
}
