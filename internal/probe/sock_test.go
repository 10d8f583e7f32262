package probe

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// TestSelectSock tells functions that get a socket and its skb from others.
func TestSelectSock(t *testing.T) {
	b := newTypes()
	sock := b.Struct("sock", 760)
	sockPtr := b.Ref(kernel.BTFPtr, "", sock)
	constSock := b.Ref(kernel.BTFPtr, "", b.Ref(kernel.BTFConst, "", sock))
	b.Func("tcp_v4_do_rcv", b.integer, sockPtr, b.skbPtr)
	b.Func("tcp_inbound", b.integer, constSock, b.constPtr, b.integer)
	b.Func("skb_set_owner_w", 0, b.skbPtr, sockPtr)
	b.Func("ip_output", b.integer, b.devPtr, sockPtr, b.skbPtr)
	b.Func("after_one_more", b.integer, sockPtr, b.integer, b.skbPtr)
	b.Func("by_value", b.integer, sock, b.skbPtr)
	b.Func("other_struct", b.integer, b.devPtr, b.skbPtr)
	b.Func("indirect", b.integer, sockPtr, b.skbPtr2)
	b.Func("skb_consume_udp", 0, sockPtr, b.skbPtr) // frees it
	want := map[string]bool{
		"tcp_v4_do_rcv": true, "tcp_inbound": true, "skb_set_owner_w": false, "ip_output": false, "after_one_more": false,
		"by_value": false, "other_struct": false, "indirect": false, "skb_consume_udp": false,
	}
	f := fixture{vmlinux: b.Bytes(), modules: map[string][]byte{}}
	at := "ffffffff810000"
	for i, name := range []string{
		"tcp_v4_do_rcv", "tcp_inbound", "skb_set_owner_w", "ip_output", "after_one_more", "by_value", "other_struct",
		"indirect", "skb_consume_udp",
	} {
		f.addrs += at + string(rune('1'+i)) + "0 " + name + "\n"
	}
	s, err := Select(f.sources(t), Options{Backend: BackendSession, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, function := range s.Functions {
		got[function.Name] = function.Sock
		if program := function.program(); (program == bpf.ProgramSock) != function.Sock {
			t.Errorf("%s: program %s", function.Name, program)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("functions with their socket (-want +got):\n%s", diff)
	}
}
