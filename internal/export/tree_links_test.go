package export

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

func linkOf(kind string, journey uint64) spans.Link {
	return spans.Link{Attrs: []spans.Attr{spans.StringAttr(spans.KeyLinkKind, kind), spans.HexAttr(spans.KeyJourney, journey)}}
}

func TestLinksInHeader(t *testing.T) {
	again := []spans.Attr{spans.IntAttr(spans.KeyTCPRetransmit, 2)}
	tests := []struct {
		name string
		root spans.Span
		want string
	}{
		{"none", spans.Span{}, ""},
		{"a segment that goes on in another", spans.Span{
			Links: []spans.Link{linkOf("segment_of", 0x1000000000004), linkOf("merged_into", 0x1000000000005)},
		}, "segment of journey 1000000000004, merged into journey 1000000000005"},
		{"several", spans.Span{
			Links: []spans.Link{linkOf("segment", 5), linkOf("segment", 6), linkOf("copy", 1)},
		}, "segment 2, copy 1"},
		{"retransmission", spans.Span{Attrs: again, Links: []spans.Link{linkOf("retransmission_of", 5)}}, "retransmission 2 of journey 5"},
		{"of an unknown packet", spans.Span{Attrs: again}, "retransmission 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(appendLinks(nil, &tt.root))); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppInHeader(t *testing.T) {
	root := spans.Span{
		Attrs: []spans.Attr{
			spans.StringAttr(spans.KeyAppTraceID, "4bf92f3577b34da6a3ce929d0e0e4736"),
			spans.HexAttr(spans.KeyAppSpanID, 0x00f067aa0ba902b7),
		},
		Links: []spans.Link{{Attrs: []spans.Attr{
			spans.StringAttr(spans.KeyLinkKind, "sent_by"), spans.StringAttr(spans.KeyAppSource, "thread"),
		}}},
	}
	want := "app 4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7"
	if diff := cmp.Diff(want, string(appendApp(nil, &root))); diff != "" {
		t.Errorf("application (-want +got):\n%s", diff)
	}
	if got := string(appendLinks(nil, &root)); got != "" {
		t.Errorf("links %q, want none: the application has its own place", got)
	}
	if got := string(appendApp(nil, &spans.Span{})); got != "" {
		t.Errorf("application %q of a packet without one", got)
	}
}
