package truth

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func equalAddress(a, b netip.AddrPort) bool { return a == b }

var (
	clientAt = netip.MustParseAddrPort("10.9.0.1:40000")
	serverAt = netip.MustParseAddrPort("10.9.0.2:7400")
)

// twoRequests is a connection with 50 bytes of setup in each direction, then requests
// of 100 and 2,000 bytes with answers of 3,000 and 10, then an alert of 24.
func twoRequests(t *testing.T) *Truth {
	t.Helper()
	truth, err := New(
		Log{
			Connections: []Connection{{
				Client: clientAt, Server: serverAt, DialledFor: 1,
				Requests: []Part{{1, 50, 150}, {2, 150, 2150}},
			}},
			Exchanges: []Exchange{{Request: 1, TraceID: "t1", ClientSpan: "c1"}, {Request: 2, TraceID: "t2", ClientSpan: "c2"}},
		},
		Log{
			Connections: []Connection{{
				Client: clientAt, Server: serverAt,
				Answers: []Part{{1, 50, 3050}, {2, 3050, 3060}},
			}},
			Exchanges: []Exchange{{Request: 1, ServerSpan: "s1"}, {Request: 2, ServerSpan: "s2"}},
		})
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

// The directions' first bytes: one of them wraps around soon.
const clientFirst, serverFirst = 0xffff_ff00, 1000

// up is a packet of the client, and down one of the server: from a byte of its stream
// on, acknowledging the other's up to a byte.
func up(from, bytes, ack int64, links ...Link) Packet {
	return Packet{
		Name: "up", Source: clientAt, Destination: serverAt, Flags: 0x10, Bytes: bytes, Links: links,
		Seq: uint32(clientFirst + from), Ack: uint32(serverFirst + ack),
	}
}

func down(from, bytes, ack int64, links ...Link) Packet {
	return Packet{
		Name: "down", Source: serverAt, Destination: clientAt, Flags: 0x10, Bytes: bytes, Links: links,
		Seq: uint32(serverFirst + from), Ack: uint32((clientFirst + ack) & 0xffff_ffff),
	}
}

func with(p Packet, flags uint8) Packet {
	p.Flags |= flags
	return p
}

func link(kind, trace, span, source string) Link { return Link{kind, trace, span, source} }

// handshake are the packets that all tests begin with.
func handshake() []Packet {
	return []Packet{with(up(-1, 0, 0), flagSYN), with(down(-1, 0, 0), flagSYN), up(0, 0, 0)}
}

// TestJudge gives one packet, and what of its links is right.
func TestJudge(t *testing.T) {
	helper1 := link("sent_by", "t1", "c1", "helper")
	tests := []struct {
		name        string
		packet      Packet
		class       Class
		tied, wrong bool
	}{
		{"request", up(50, 100, 50, helper1), ClassRequest, true, false},
		{"request of another", up(150, 2000, 3050, helper1), ClassRequest, false, true},
		{"request, also of another", up(50, 100, 50, helper1, link("sent_by", "t2", "c2", "helper")), ClassRequest, true, true},
		{"two requests, one named", up(100, 100, 50, helper1), ClassRequest, false, false},
		{"two requests", up(100, 100, 50, helper1, link("sent_by", "t2", "c2", "helper")), ClassRequest, true, false},
		{"the server's span", up(50, 100, 50, link("sent_by", "t1", "s1", "helper")), ClassRequest, false, true},
		{"by nobody", up(50, 100, 50), ClassRequest, false, false},
		{"read by the server", up(50, 100, 50, helper1, link("read_by", "t1", "s1", "helper")), ClassRequest, true, false},
		{"read by the client", up(50, 100, 50, helper1, link("read_by", "t1", "c1", "helper")), ClassRequest, true, true},
		{"only read", up(50, 100, 50, link("read_by", "t1", "s1", "helper")), ClassRequest, false, false},
		{"across the wrap", up(250, 100, 50, link("sent_by", "t2", "c2", "payload")), ClassRequest, true, false},
		{"answer by the server", down(50, 3000, 150, link("sent_by", "t1", "s1", "helper")), ClassAnswer, true, false},
		{"answer by payload", down(50, 3000, 150, link("answers", "t1", "c1", "payload")), ClassAnswer, true, false},
		{"answer sent by payload", down(50, 3000, 150, link("sent_by", "t1", "c1", "payload")), ClassAnswer, false, true},
		{"request answers", up(50, 100, 50, link("answers", "t1", "c1", "payload")), ClassRequest, false, true},
		{"a trace of nobody", down(50, 3000, 150, link("answers", "t9", "c9", "payload")), ClassAnswer, false, true},
		{"setup by who dialled", up(0, 50, 0, helper1), ClassSetup, true, false},
		{"setup by another", up(0, 50, 0, link("sent_by", "t2", "c2", "helper")), ClassSetup, false, true},
		{"SYN by who dialled", with(up(-1, 0, 0, helper1), flagSYN), ClassHandshake, true, false},
		{"acknowledges an answer", up(150, 0, 3050, helper1), ClassClientACK, true, false},
		{"acknowledges two", up(150, 0, 3060, helper1, link("sent_by", "t2", "c2", "helper")), ClassClientACK, true, false},
		{"acknowledges another", up(150, 0, 1000, link("sent_by", "t2", "c2", "helper")), ClassClientACK, false, true},
		{"acknowledges a request", down(3050, 0, 2150, link("answers", "t2", "c2", "payload")), ClassServerACK, false, false},
		{"alert", down(3060, 24, 2150), ClassOther, false, false},
		{"alert of a request", down(3060, 24, 2150, link("sent_by", "t2", "s2", "helper")), ClassOther, false, true},
		{"FIN", with(up(2150, 0, 3060, link("sent_by", "t2", "c2", "helper")), flagFIN), ClassClose, false, false},
		{"RST of another", with(up(2150, 0, 0, helper1), flagRST), ClassClose, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row := twoRequests(t).Judge(append(handshake(), tt.packet)).Rows[tt.class]
			before := twoRequests(t).Judge(handshake()).Rows[tt.class]
			tied, wrong := row.Tied-before.Tied == 1, row.Wrong-before.Wrong == 1
			if row.Packets-before.Packets != 1 || tied != tt.tied || wrong != tt.wrong {
				t.Errorf("%d packets, tied %v, wrong %v; want 1, %v, %v", row.Packets-before.Packets, tied, wrong, tt.tied, tt.wrong)
			}
		})
	}
}

// TestJudgeEnd judges how a connection ends: what is not of the last request is wrong.
func TestJudgeEnd(t *testing.T) {
	packets := append(handshake(),
		with(down(3060, 0, 2150, link("sent_by", "t2", "s2", "helper")), flagFIN),
		up(2150, 0, 3060, link("sent_by", "t2", "c2", "payload")),
		up(2150, 0, 3061, link("sent_by", "t2", "c2", "payload")),
		with(up(2150, 0, 3061, link("sent_by", "t1", "c1", "payload")), flagFIN), // wrong
		down(3061, 0, 2151, link("answers", "t1", "c1", "payload")),              // wrong
	)
	v := twoRequests(t).Judge(packets)
	// The server's FIN acknowledges both requests, and is tied to one only.
	if row := v.Rows[ClassClose]; row.Packets != 4 || row.Tied != 1 || row.Wrong != 2 || len(v.Wrong) != 2 {
		t.Errorf("%d packets, %d tied, %d wrong: want 4, 1 and 2\n%s", row.Packets, row.Tied, row.Wrong, v.Table())
	}
	// Nothing acknowledges a lower number, so that the first answer is in the range, too.
	if row := v.Rows[ClassClientACK]; row.Packets != 1 || row.Wrong != 0 {
		t.Errorf("%d acknowledgements, %d wrong: want 1 and none", row.Packets, row.Wrong)
	}
}

// TestJudgeConnection judges all packets of a connection, in any order.
func TestJudgeConnection(t *testing.T) {
	packets := append(handshake(),
		up(0, 50, 0, link("sent_by", "t1", "c1", "helper")), down(0, 50, 50),
		up(50, 100, 50, link("sent_by", "t1", "c1", "helper")),
		down(50, 1500, 150, link("sent_by", "t1", "s1", "helper")), down(1550, 1500, 150),
		up(150, 0, 3050, link("sent_by", "t1", "c1", "helper")),
		up(150, 1000, 3050, link("sent_by", "t1", "c1", "helper")), // wrong
		down(3060, 24, 2150),
		Packet{Name: "stranger", Source: serverAt, Destination: serverAt},
	)
	slices.Reverse(packets)
	v := twoRequests(t).Judge(packets)
	got := map[Class][4]int{}
	for class, row := range v.Rows {
		got[class] = [4]int{row.Packets, row.Ours, row.Tied, row.Wrong}
	}
	want := map[Class][4]int{
		ClassHandshake: {3, 3, 0, 0}, ClassSetup: {2, 2, 1, 0}, ClassRequest: {2, 2, 1, 1}, ClassAnswer: {2, 2, 1, 0},
		ClassOther: {1, 0, 0, 0}, ClassClientACK: {1, 1, 1, 0}, ClassServerACK: {}, ClassClose: {}, ClassUnknown: {}, ClassUnexpected: {1, 0, 0, 0},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("packets, of a request, tied, wrong (-want +got):\n%s", diff)
	}
	if recall := v.Recall(); recall != 0.5 {
		t.Errorf("recall is %v, want 0.5", recall)
	}
	if len(v.Wrong) != 1 || !strings.Contains(v.Wrong[0], "request data of requests [2]") || !strings.Contains(v.Wrong[0], "which is of request 1") {
		t.Errorf("wrong links: %q", v.Wrong)
	}
	wantUnseen := []string{"no packet has bytes 1150 to 2150 from 10.9.0.1:40000", "no packet has bytes 3050 to 3060 from 10.9.0.2:7400"}
	if diff := gocmp.Diff(wantUnseen, v.Unseen); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	for _, row := range []string{
		"request data             2        2             1     1      1 no span, first packet",
		"down (answer data of requests [1], 10.9.0.2:7400 → 10.9.0.1:40000, 1500 bytes): no span, later packet",
	} {
		if !strings.Contains(v.Table(), row) {
			t.Errorf("the table has no line %q:\n%s", row, v.Table())
		}
	}
}

// TestJudgeWithoutHandshake expects nothing to be said of packets whose bytes nobody
// knows.
func TestJudgeWithoutHandshake(t *testing.T) {
	v := twoRequests(t).Judge([]Packet{up(50, 100, 50, link("sent_by", "t2", "c2", "helper"))})
	if row := v.Rows[ClassUnknown]; row.Packets != 1 || row.Wrong != 0 || len(v.Unseen) != 1 {
		t.Errorf("%d packets, %d wrong, gaps %q", row.Packets, row.Wrong, v.Unseen)
	}
}

// TestJudgeNothing expects packets that were not seen to be missed.
func TestJudgeNothing(t *testing.T) {
	v := twoRequests(t).Judge(nil)
	if want := []string{"no packet of the connection from 10.9.0.1:40000 to 10.9.0.2:7400"}; !slices.Equal(v.Unseen, want) || v.Recall() != 0 {
		t.Errorf("unseen %q, recall %v", v.Unseen, v.Recall())
	}
}
