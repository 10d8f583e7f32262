//go:build vm

package scenario

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/otel-kprobe/otel-kprobe/test/truth"
)

// httpFile is what a server wrote for one request, on its disk.
type httpFile struct {
	truth.Exchange
	extents [][2]int64 // first sector, and the one behind the last
}

// TestHTTPBlock has a server that writes a file for each request and flushes it. The
// file system tells where on the disk each file is: every request of the block layer
// that writes there is to be tied to the span of the request that the file is of.
func TestHTTPBlock(t *testing.T) {
	loadBlockModules(t)
	disk := nullDisk(t, 0, map[string]string{"size": "128"})
	run := httpRun{requests: 200, concurrency: 8, maxBytes: 300_000, store: true, clientHelper: true}
	run.server.Helper, run.server.Dir = true, makeFS(t, disk, "-O", "^has_journal")
	var tr *tracer
	known := run.play(t, func() { tr = startBlock(t, "--device", string(disk)) })
	var files []httpFile
	for _, e := range known.Exchanges() {
		files = append(files, httpFile{e, extentsOf(t, e.File)})
	}
	o := tr.stop(t)
	checkBlockSums(t, o)
	checkHTTPFiles(t, files, on(readRequests(t, o.output()), disk), submittersOf(t, o.output()))
}

// extentsOf asks the file system where a file is.
func extentsOf(t *testing.T, path string) (extents [][2]int64) {
	t.Helper()
	// Lines of extents: "   0:        0..      24:      33792..     33816:     25: …"
	for line := range strings.Lines(must(t, "filefrag", "-v", "-b512", path)) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" .:\n", r) })
		if len(fields) < 5 {
			continue
		}
		if _, err := strconv.Atoi(fields[0]); err != nil {
			continue
		}
		first, err := strconv.ParseInt(fields[3], 10, 64)
		if err != nil {
			continue
		}
		last, err := strconv.ParseInt(fields[4], 10, 64)
		if err != nil {
			t.Fatalf("filefrag says %q", line)
		}
		extents = append(extents, [2]int64{first, last + 1})
	}
	return extents
}

// submittersOf are the spans that each trace's root was submitted in, by the root's id.
func submittersOf(t *testing.T, path string) map[string][]truth.Link {
	t.Helper()
	all := map[string][]truth.Link{}
	eachTrace(t, path, func(j *journey, spans ptrace.SpanSlice) {
		for _, link := range spans.At(0).Links().All() {
			kind, _ := link.Attributes().Get("otel_kprobe.link.kind")
			source, _ := link.Attributes().Get("otel_kprobe.app.source")
			all[j.root.id] = append(all[j.root.id], truth.Link{
				Kind: kind.Str(), TraceID: link.TraceID().String(), SpanID: link.SpanID().String(), Source: source.Str(),
			})
		}
	})
	return all
}

// checkHTTPFiles holds the links of what was written against the files.
func checkHTTPFiles(t *testing.T, files []httpFile, requests []*request, links map[string][]truth.Link) {
	t.Helper()
	own := func(f httpFile, l truth.Link) bool {
		return l == truth.Link{Kind: "submitted_by", TraceID: f.TraceID, SpanID: f.ServerSpan, Source: "helper"}
	}
	data, tied, shared := 0, 0, 0
	written := map[int]int{}
	for _, r := range requests {
		if r.writtenBack() { // before the server flushed it: nobody's, on purpose
			shared++
			for _, f := range files {
				if f.has(r) {
					written[f.Request]++
				}
			}
			continue
		}
		of := slices.DeleteFunc(slices.Clone(files), func(f httpFile) bool { return !f.has(r) })
		if len(of) > 0 {
			data++
		} else { // metadata, which any of the spans may have flushed
			of = files
		}
		right := 0
		for _, l := range links[r.id] {
			i := slices.IndexFunc(of, func(f httpFile) bool { return own(f, l) })
			if i < 0 {
				t.Errorf("%s of %d bios is %s span %s of trace %s by %s, and writes the files of %+v", r, r.number("otel_kprobe.block.bios"), l.Kind, l.SpanID, l.TraceID, l.Source, of[:min(len(of), 2)])
				continue
			}
			right++
			written[of[i].Request]++
		}
		if len(of) < len(files) && right == len(of) {
			tied++
		} else if len(of) < len(files) {
			t.Logf("%s is not tied to all files that it writes, %+v: %v", r, of, r.attrs)
		}
	}
	t.Logf("%d requests of the block layer, %d of write-back, %d others with data of files, %d of these tied", len(requests), shared, data, tied)
	if data < len(files)/2 || 100*tied < 99*data {
		t.Errorf("%d of %d requests with data of %d files are tied, want 99 %%", tied, data, len(files))
	}
	for _, f := range files {
		if len(f.extents) > 0 && written[f.Request] == 0 {
			t.Errorf("nothing that wrote the file of request %d is tied to its span, or of write-back", f.Request)
		}
	}
}

// writtenBack says whether the kernel's write-back submitted any of a request.
func (r *request) writtenBack() bool {
	return r.attrs[keyWriteback] != nil || slices.ContainsFunc(r.named("merge"), func(e spanEvent) bool {
		return e.attrs[keyWriteback] != nil
	})
}

// has says whether a request writes bytes of the file.
func (f httpFile) has(r *request) bool {
	from := r.number(keySector)
	to := from + r.number(keyBytes)/sectorSize
	return r.operation() == "write" && slices.ContainsFunc(f.extents, func(e [2]int64) bool { return from < e[1] && to > e[0] })
}
