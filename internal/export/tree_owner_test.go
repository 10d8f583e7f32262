package export

import (
	"strings"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// containerNames puts every cgroup into one container.
type containerNames struct{}

func (containerNames) Cgroup(uint64) string {
	return "/docker/" + strings.Repeat("0123456789abcdef", 4)
}
func (containerNames) Executable(spans.Thread) string { return "" }

func TestHeaderNamesOwners(t *testing.T) {
	owner := func(at uint64, name string, pid uint32, cgroup uint64) event.Owner {
		return event.Owner{
			AtMonoNs: packetStartNs + at, Flags: event.OwnerProcess, TGID: pid, TID: pid, Comm: chars(name), Cgroup: cgroup,
		}
	}
	for _, test := range []struct {
		name, first string
		owners      []event.Owner
		want        string
	}{
		{"sent, in a container", "ip_output", []event.Owner{owner(0, "curl", 70, 5)}, "curl[70] in container 0123456789ab  "},
		{"sent, in none", "ip_output", []event.Owner{owner(0, "curl", 70, 0)}, "  curl[70]  "},
		{
			"sent and received", "ip_output",
			[]event.Owner{owner(0, "curl", 70, 0), owner(60, "nginx", 80, 5)},
			"curl[70], for nginx[80] in container 0123456789ab  ",
		},
		{"received", "ip_rcv", []event.Owner{owner(60, "nginx", 80, 5)}, "for nginx[80] in container 0123456789ab  "},
		{
			"received, of a socket that nobody used", "ip_rcv",
			[]event.Owner{{AtMonoNs: packetStartNs + 60, Cgroup: 5}},
			"for container 0123456789ab  ",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newTestKernel()
			p := newPacket(k, 12)
			const skb = 0xffff888100a0e000
			f := baseFacts("10.0.0.1", "10.0.0.2", 17)
			f.Flags |= event.FactsStart | event.FactsPorts
			p.fact(skb, 0, f)
			p.call(test.first, "", skb, 0, 10, 40, nil)
			p.call("udp_queue_rcv_skb", "", skb, 0, 50, 90, nil)
			p.end(skb, 95, event.EndConsumed, 0)
			p.j.Owners = test.owners
			var out collector
			c := NewConsole(&out, ConsoleOptions{Format: FormatTree, ASCII: true})
			c.Export(spans.NewBuilder(spans.Options{Names: k, Clock: k, Owners: containerNames{}}).Build(&p.j))
			if header, _, _ := strings.Cut(string(out), "\n"); !strings.Contains(header, test.want) {
				t.Errorf("%q lacks %q", header, test.want)
			}
		})
	}
}
