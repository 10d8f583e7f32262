package main

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeTable stands in for the kernel side.
type fakeTable struct {
	flows    map[flow]bool
	told     []flow
	excluded error
}

func (f *fakeTable) ExcludeFlow(local, remote netip.AddrPort) error {
	f.flows[flow{local, remote}] = true
	f.told = append(f.told, flow{local, remote})
	return f.excluded
}

func (f *fakeTable) IncludeFlow(local, remote netip.AddrPort) error {
	delete(f.flows, flow{local, remote})
	return nil
}

// ownOf gives an ownTraffic with a table and a clock that stands still.
func ownOf(log *bytes.Buffer) (*ownTraffic, *fakeTable, *time.Time) {
	now := time.Unix(0, 0)
	o := newOwnTraffic(newLogger(log))
	o.now = func() time.Time { return now }
	return o, &fakeTable{flows: make(map[flow]bool)}, &now
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("this host cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// A connection is excluded before its first packet, under the address that it
// then has, and for a minute after its end.
func TestOwnTrafficExcludesConnections(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			o, table, now := ownOf(&bytes.Buffer{})
			o.excludeIn(table)
			l := listen(t, "tcp", address)
			conn, err := o.dial(t.Context(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			want := flow{conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()}
			// Once: what was bound before connecting is what was connected.
			if diff := cmp.Diff([]flow{want}, table.told, cmp.AllowUnexported(flow{}), cmp.Comparer(sameAddr)); diff != "" {
				t.Error(diff)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			*now = now.Add(closedFor)
			o.exclude(flow{})
			if !table.flows[want] {
				t.Error("its last packets are traced")
			}
			*now = now.Add(time.Second)
			o.exclude(flow{})
			if table.flows[want] {
				t.Error("it stays excluded for ever")
			}
		})
	}
}

func sameAddr(a, b netip.AddrPort) bool { return a == b }

// A receiver that is not there must not fill the table.
func TestOwnTrafficForgetsFailedAttempts(t *testing.T) {
	o, table, now := ownOf(&bytes.Buffer{})
	o.excludeIn(table)
	address := freePort(t)
	for range 100 {
		if conn, err := o.dial(t.Context(), address); err == nil {
			t.Fatalf("connected to %s", conn.RemoteAddr())
		}
		*now = now.Add(10 * time.Second)
	}
	if len(table.told) < 100 || len(table.flows) > 8 {
		t.Errorf("%d attempts were excluded, %d still are", len(table.told), len(table.flows))
	}
}

// Connections from before the programs were loaded are told then; after the end
// nothing is told any more.
func TestOwnTrafficBeforeAndAfter(t *testing.T) {
	o, table, _ := ownOf(&bytes.Buffer{})
	l := listen(t, "tcp", "127.0.0.1:0")
	conn, err := o.dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	o.excludeIn(table)
	if len(table.flows) != 1 {
		t.Errorf("flows %v", table.flows)
	}
	o.forget(table)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	o.exclude(flow{})
	if len(table.told) != 1 {
		t.Errorf("told %v", table.told)
	}
}

func TestOwnTrafficWarns(t *testing.T) {
	var log bytes.Buffer
	o, table, _ := ownOf(&log)
	table.excluded = errors.New("map is full")
	o.excludeIn(table)
	o.exclude(flow{})
	if got := log.String(); got != "level=WARN msg=\"our own OTLP connection will be traced\" error=\"map is full\"\n" {
		t.Errorf("log %q", got)
	}
}

// A unix socket has no packets to exclude.
func TestOwnTrafficOverSocket(t *testing.T) {
	o, table, _ := ownOf(&bytes.Buffer{})
	o.excludeIn(table)
	path := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", path)
	for _, address := range []string{"unix:" + path, "unix://" + path} {
		conn, err := o.dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(table.told) != 0 {
		t.Errorf("told %v", table.told)
	}
}
