package export

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestAppendApp(t *testing.T) {
	named := []spans.Attr{
		spans.StringAttr(spans.KeyAppTraceID, "4bf92f3577b34da6a3ce929d0e0e4736"), spans.HexAttr(spans.KeyAppSpanID, 0xf067aa0ba902b7),
	}
	const id = "app 4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7"
	for _, c := range []struct {
		attrs []spans.Attr
		want  string
	}{
		{nil, ""},
		{named[:1], ""},
		{named, id},
		{append(named, spans.BoolAttr(spans.KeyAppSampled, false)), id + " (not sampled)"},
	} {
		if got := string(appendApp(nil, &spans.Span{Attrs: c.attrs})); got != c.want {
			t.Errorf("%+v: %q, want %q", c.attrs, got, c.want)
		}
	}
}
