//go:build cgo

package filter

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// readsLength reports whether a program's verdict depends on the packet's
// length on the wire, which the reference machine cannot be told.
func readsLength(raw []bpf.RawInstruction) bool {
	for _, ins := range raw {
		if ins.Op == unix.BPF_LD|opLen {
			return true
		}
	}
	return false
}

func TestExpressionsAgreeWithReference(t *testing.T) {
	all := packets()
	for _, expr := range expressions() {
		t.Run(expr, func(t *testing.T) {
			p, err := Compile(expr)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range []Layer{L2, L3} {
				raw := p.classic(l)
				bodies := translateModes(t, raw)
				verdicts := [2]int{}
				for _, pk := range all {
					agree(t, fmt.Sprintf("%q at %s on %s", expr, l, pk.name), raw, bodies, pk.from(l))
					verdicts[reference(t, raw, pk.from(l))]++
				}
				if expr != "" && l == L2 && (verdicts[0] == 0 || verdicts[1] == 0) && !strings.HasPrefix(expr, "ether[") {
					t.Errorf("verdicts %v: no packet tells this filter from a constant", verdicts)
				}
			}
		})
	}
}

// TestTruncatedPacketsReject has the wire length beyond what is readable.
func TestTruncatedPacketsReject(t *testing.T) {
	for _, expr := range expressions() {
		p, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		if readsLength(p.L2) {
			continue
		}
		for i, body := range translateModes(t, p.L2) {
			for _, pk := range packets() {
				want := reference(t, p.L2, pk.frame)
				got, err := run(body, modes()[i], pk.frame, 65535)
				if err != nil || got != want {
					t.Fatalf("%q on %s: got %d, %v; want %d", expr, pk.name, got, err, want)
				}
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	tests := map[string]string{
		"foo bar":         `compile filter "foo bar": can't parse filter expression: syntax error`,
		"host 1.2.3.400":  "invalid IPv4 address '1.2.3.400'",
		"tcp port":        "syntax error",
		"ip broadcast":    "netmask not known",
		"tcp and udp[":    "syntax error",
		"1 = 2":           "expression rejects all packets",
		"inbound":         errAncillary.Error(),
		"ifindex 3":       errAncillary.Error(),
		"ip protochain 6": errLoop.Error(),
		"tcp\x00udp":      "NUL byte",
	}
	for expr, want := range tests {
		t.Run(expr, func(t *testing.T) {
			p, err := Compile(expr)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("program %v, error %v; want an error with %q", p, err, want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
			if errors.Is(err, ErrNoPcap) {
				t.Errorf("error claims that libpcap is missing: %v", err)
			}
		})
	}
}

func TestCompileLayers(t *testing.T) {
	tests := map[string]struct{ l3Rejected string }{
		"tcp":                          {""},
		"not arp":                      {""},
		"ether host 00:11:22:33:44:55": {"ethernet addresses supported only on"},
		"vlan 5":                       {"no VLAN support"},
		"tcp or vlan":                  {"no VLAN support"},
		"arp":                          {"expression rejects all packets"},
	}
	for expr, tc := range tests {
		t.Run(expr, func(t *testing.T) {
			p, err := Compile("  " + expr + "\n")
			if err != nil {
				t.Fatal(err)
			}
			if p.Expression != expr || p.MatchesAll() {
				t.Errorf("expression %q, matches all %v", p.Expression, p.MatchesAll())
			}
			if !strings.Contains(p.L3Rejected, tc.l3Rejected) || (p.L3Rejected == "") != (tc.l3Rejected == "") {
				t.Errorf("L3 rejected for %q, want %q", p.L3Rejected, tc.l3Rejected)
			}
			for _, pk := range packets() {
				if p.L3Rejected != "" && reference(t, p.L3, pk.from(L3)) != 0 {
					t.Errorf("L3 matches %s", pk.name)
				}
			}
		})
	}
}

func TestCompileConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, expr := range expressions() {
				if _, err := Compile(expr); err != nil {
					t.Error(err)
				}
				if _, err := Compile("foo bar"); err == nil {
					t.Error("no error")
				}
			}
		})
	}
	wg.Wait()
}
