package export

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestTunnelInTheHeader(t *testing.T) {
	for _, c := range []struct {
		attrs []spans.Attr
		want  string
	}{
		{nil, ""},
		{[]spans.Attr{
			spans.StringAttr(spans.KeyTunnelProtocol, "vxlan"), spans.StringAttr(spans.KeyTunnelSource, "192.0.2.1"),
			spans.StringAttr(spans.KeyTunnelDestination, "192.0.2.2"),
		}, "in vxlan 192.0.2.1 -> 192.0.2.2"},
	} {
		tr := &spans.Trace{Spans: []spans.Span{{Attrs: c.attrs}}}
		if got := string(newTree(ConsoleOptions{ASCII: true}).appendTunnel(nil, tr)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
