//go:build vm

package scenario

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// The network of the tc and XDP scenario:
//
//	xtleft  vta 10.30.0.1 ── 10.30.0.2 vtb  xtright  vtc ── vtd  xtfar
//	        vxa 10.31.0.1 ── 10.31.0.2 vxb           vxc ── vxd
//
// vtb has a tc program on ingress, vta a generic XDP program and, after the start, a
// tc program on egress; vxb and vxd have native XDP programs.
const programNetwork = `
set -e
modprobe -a veth sch_ingress cls_bpf
for ns in xtleft xtright xtfar; do
	ip netns add $ns
	ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
	ip -n $ns link set lo up
done
pair() {
	ip link add $2 netns $1 type veth peer name $4 netns $3
	ip -n $1 link set $2 up
	ip -n $3 link set $4 up
}
pair xtleft vta xtright vtb
pair xtleft vxa xtright vxb
pair xtright vtc xtfar vtd
pair xtright vxc xtfar vxd
ip -n xtleft addr add 10.30.0.1/24 dev vta
ip -n xtright addr add 10.30.0.2/24 dev vtb
ip -n xtleft addr add 10.31.0.1/24 dev vxa
ip -n xtright addr add 10.31.0.2/24 dev vxb
mkdir -p /run/xtbpf
mount -t bpf bpf /run/xtbpf
ip -n xtright link set vtb up
tc -n xtleft qdisc add dev vta clsact
tc -n xtright qdisc add dev vtb clsact
ip netns exec xtleft ping -q -c 1 -W 5 10.30.0.2
ip netns exec xtleft ping -q -c 1 -W 5 10.31.0.2
`

// Ports tell the programs what to do with a datagram.
const (
	portTCDrop       = 8101
	portTCRedirect   = 8102
	portXDPDrop      = 8111
	portXDPPass      = 8112
	portXDPRedirect  = 8113
	portXDPSend      = 8114
	portSkbModeDrop  = 8121
	portSkbModePass  = 8122
	portOffset       = 14 + 20 + 2 // of the UDP destination port, without IP options
	tcOK, tcShot     = 0, 2
	tcRedirect       = 7
	xdpDrop, xdpPass = 1, 2
	xdpSend          = 3
)

// verdict is what a program returns for a port; redirect: what bpf_redirect to that
// interface returns.
type verdict struct {
	port     uint16
	returns  int32
	redirect int
}

// loadProgram loads a program with BTF that gives each port its verdict and returns
// other for the rest. It is freed at the end of the test.
func loadProgram(t *testing.T, kind ebpf.ProgramType, name string, other int32, verdicts ...verdict) *ebpf.Program {
	t.Helper()
	context := &btf.Struct{Name: "__sk_buff", Size: 4, Members: []btf.Member{{Name: "len", Type: number("__u32")}}}
	if kind == ebpf.XDP {
		context = &btf.Struct{Name: "xdp_md", Size: 4, Members: []btf.Member{{Name: "data", Type: number("__u32")}}}
	}
	function := &btf.Func{
		Name: name, Linkage: btf.GlobalFunc,
		Type: &btf.FuncProto{
			Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
			Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: context}}},
		},
	}
	insns := readPort(kind)
	insns[0] = btf.WithFuncMetadata(insns[0].WithSymbol(name), function)
	for i, v := range verdicts {
		next := "next" + strconv.Itoa(i)
		insns = append(insns, asm.JNE.Imm(asm.R7, int32(v.port), next))
		if v.redirect != 0 {
			insns = append(insns, asm.Mov.Imm(asm.R1, int32(v.redirect)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
		} else {
			insns = append(insns, asm.Mov.Imm(asm.R0, v.returns), asm.Return())
		}
		insns = append(insns, asm.Mov.Reg(asm.R7, asm.R7).WithSymbol(next))
	}
	insns = append(insns, asm.Mov.Imm(asm.R0, other).WithSymbol("other"), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: kind, Instructions: insns, License: "GPL"})
	if err != nil {
		t.Fatalf("load %s: %v", name, err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return program
}

// withoutBTF loads a program that the kernel permits no trampoline of.
func withoutBTF(t *testing.T) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "plain", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcOK), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
}

func number(name string) btf.Type {
	return &btf.Typedef{Name: name, Type: &btf.Int{Name: "unsigned int", Size: 4}}
}

// readPort leaves the UDP destination port in R7, or jumps to other.
func readPort(kind ebpf.ProgramType) asm.Instructions {
	if kind == ebpf.XDP {
		const data, end = 0, 4 // in struct xdp_md
		return asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, data, asm.Word),
			asm.LoadMem(asm.R3, asm.R6, end, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, portOffset+2),
			asm.JGT.Reg(asm.R4, asm.R3, "other"),
			asm.LoadMem(asm.R7, asm.R2, portOffset, asm.Half),
			asm.HostTo(asm.BE, asm.R7, asm.Half),
		}
	}
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, portOffset),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 2),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "other"),
		asm.LoadMem(asm.R7, asm.RFP, -8, asm.Half),
		asm.HostTo(asm.BE, asm.R7, asm.Half),
	}
}

// interfaceIn is the index of an interface in a namespace.
func interfaceIn(t *testing.T, ns, name string) (index int) {
	t.Helper()
	err := inNS(ns, func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			index = i.Index
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// attachXDP attaches a program until the test ends.
func attachXDP(t *testing.T, ns, name string, program *ebpf.Program, flags link.XDPAttachFlags) {
	t.Helper()
	index := interfaceIn(t, ns, name)
	err := inNS(ns, func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: flags})
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatalf("attach XDP to %s: %v", name, err)
	}
}

// attachTC attaches a program with tc, as direct action, at ingress or egress.
func attachTC(t *testing.T, ns, name, direction string, program *ebpf.Program) {
	t.Helper()
	pin := "/run/xtbpf/" + name + direction
	if err := program.Pin(pin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(pin) })
	must(t, "tc", "-n", ns, "filter", "add", "dev", name, direction, "bpf", "direct-action", "object-pinned", pin)
}

// setUpPrograms makes the network and removes it when the test ends.
func setUpPrograms(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for _, ns := range []string{"xtleft", "xtright", "xtfar"} {
			must(t, "ip", "netns", "del", ns)
		}
		must(t, "umount", "/run/xtbpf")
	})
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 programs count as locked memory
		t.Fatal(err)
	}
	must(t, "sh", "-c", programNetwork)
}

// datagram sends one to a port from a namespace.
func datagram(t *testing.T, ns, address string, port int) {
	t.Helper()
	err := inNS(ns, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("datagram"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until the tracer's standard error says something.
func (tr *tracer) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); !strings.Contains(tr.stderr.String(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("standard error lacks %q after %v:\n%s", text, readyWithin, tr.stderr.String())
		}
	}
}

// programID is the kernel's id of a program.
func programID(t *testing.T, program *ebpf.Program) int64 {
	t.Helper()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		t.Fatal(fmt.Errorf("%v has no id", program))
	}
	return int64(id)
}
