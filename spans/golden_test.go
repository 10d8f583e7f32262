package spans

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	for name, scenario := range map[string]func(*fakeKernel) *testJourney{
		"ping-veth": pingVeth, "tcp-drop": tcpDrop, "forward": forward, "unfinished": unfinished,
		"lost": lost, "queued": queued, "entry-only": entryOnly, "empty": empty,
	} {
		t.Run(name, func(t *testing.T) {
			k := newFakeKernel()
			j := scenario(k)
			checkGolden(t, name, dump(testBuilder(k).Build(&j.Journey)))
		})
	}
}

// checkGolden compares with a file of testdata, or writes it.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("trace differs (-want +got), run with -update if it should:\n%s", diff)
	}
}

// dump writes a trace as indented text with times relative to its start.
func dump(t *Trace) string {
	var b strings.Builder
	fmt.Fprintf(&b, "trace %x journey %d direction %q protocol %q end %q drop span %d incomplete %v\n",
		t.ID, t.Journey, t.Direction, t.Protocol, t.End, t.DropSpan, t.Incomplete)
	for i := range t.Spans {
		s := &t.Spans[i]
		in := strings.Repeat("  ", int(s.Depth))
		fmt.Fprintf(&b, "%s%s  +%d..+%d self %d  id %x parent %x\n", in, s.Name,
			int64(s.StartUnixNs-t.Spans[0].StartUnixNs), int64(s.EndUnixNs-t.Spans[0].StartUnixNs), s.SelfNs, s.ID, s.Parent)
		if s.Error {
			fmt.Fprintf(&b, "%s  ! error %q\n", in, s.Message)
		}
		for _, a := range s.Attrs {
			fmt.Fprintf(&b, "%s  - %s = %s\n", in, a.Key, dumpValue(t, a))
		}
		for _, e := range s.Events {
			fmt.Fprintf(&b, "%s  * %s +%d\n", in, e.Name, int64(e.UnixNs-t.Spans[0].StartUnixNs))
			for _, a := range e.Attrs {
				fmt.Fprintf(&b, "%s    - %s = %s\n", in, a.Key, dumpValue(t, a))
			}
		}
		for _, l := range s.Links {
			fmt.Fprintf(&b, "%s  > link %x %x\n", in, l.TraceID, l.SpanID)
			for _, a := range l.Attrs {
				fmt.Fprintf(&b, "%s    - %s = %s\n", in, a.Key, dumpValue(t, a))
			}
		}
	}
	return b.String()
}

func dumpValue(t *Trace, a Attr) string {
	switch a.Type {
	case TypeInt:
		return fmt.Sprint(a.Int)
	case TypeBool:
		return fmt.Sprint(a.Int == 1)
	case TypeHex:
		return fmt.Sprintf("%016x", uint64(a.Int))
	case TypeList:
		return fmt.Sprintf("%q", t.List(a))
	default:
		return fmt.Sprintf("%q", a.Str)
	}
}
