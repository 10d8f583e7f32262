package export

import (
	"strings"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// The header says who keeps a packet.
func TestHeaderNamesWhoKeepsThePacket(t *testing.T) {
	k := newTestKernel()
	p := newPacket(k, 12)
	const skb = 0xffff888100a0b000
	p.fact(skb, 0, baseFacts("10.0.0.1", "10.0.0.2", 17))
	p.call("nf_hook_slow", "", skb, 0, 0, 100, nil)
	p.call("their_hook", "theirs", skb, 1, 10, 90, nil)
	for ret, want := range map[uint64]string{1: "unfinished", 2: "stolen by their_hook"} {
		p.j.Frames[1].Return, p.j.Unfinished = ret, true
		var out collector
		NewConsole(&out, ConsoleOptions{}).Export(spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(&p.j))
		if text := string(out); !strings.Contains(text, want) || strings.Contains(text, "stolen") != (ret == 2) {
			t.Errorf("return value %d is shown as\n%swant %q", ret, text, want)
		}
	}
}

// The header says that functions were shed.
func TestHeaderNamesShedding(t *testing.T) {
	k := newTestKernel()
	p := newPacket(k, 12)
	const skb = 0xffff888100a0b000
	p.fact(skb, 0, baseFacts("10.0.0.1", "10.0.0.2", 17))
	p.call("ip_rcv", "", skb, 0, 0, 100, nil)
	for _, shed := range []bool{false, true} {
		p.j.Shed = shed
		var out collector
		NewConsole(&out, ConsoleOptions{}).Export(spans.NewBuilder(spans.Options{Names: k, Clock: k}).Build(&p.j))
		if text := string(out); strings.Contains(text, "functions shed") != shed {
			t.Errorf("shed %v is shown as\n%s", shed, text)
		}
	}
}
