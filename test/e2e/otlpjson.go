package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// DecodeTraces decodes one TracesData in OTLP's JSON encoding
// (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
func DecodeTraces(text []byte) (ptrace.Traces, error) {
	// The library skips what it does not know; an unrelated object must not pass
	// for a trace without spans. Jaeger answers {} where it has nothing.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return ptrace.Traces{}, fmt.Errorf("decode OTLP/JSON: %w", err)
	}
	if _, ok := fields["resourceSpans"]; !ok && len(fields) > 0 {
		return ptrace.Traces{}, fmt.Errorf("decode OTLP/JSON: no resourceSpans in %s", head(text))
	}
	traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(text)
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("decode OTLP/JSON: %w", err)
	}
	return traces, nil
}

// ReadTraces reads OTLP/JSON lines, one TracesData each, as the Collector's file
// exporter and `otel-kprobe --exporter file` write them. A last line without its
// end is an error: the writer did not finish.
func ReadTraces(r io.Reader) (ptrace.Traces, error) {
	all := ptrace.NewTraces()
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return all, nil
		case errors.Is(err, io.EOF):
			return ptrace.Traces{}, fmt.Errorf("read OTLP/JSON lines: line %d has no end", n)
		case err != nil:
			return ptrace.Traces{}, fmt.Errorf("read OTLP/JSON lines: %w", err)
		}
		traces, err := DecodeTraces(bytes.TrimSpace(line))
		if err != nil {
			return ptrace.Traces{}, fmt.Errorf("line %d: %w", n, err)
		}
		traces.ResourceSpans().MoveAndAppendTo(all.ResourceSpans())
	}
}

// ReadTracesFile is ReadTraces on a file.
func ReadTracesFile(path string) (ptrace.Traces, error) {
	f, err := os.Open(path)
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("read OTLP/JSON lines: %w", err)
	}
	defer f.Close()
	traces, err := ReadTraces(f)
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("%s: %w", path, err)
	}
	return traces, nil
}
