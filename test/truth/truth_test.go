package truth

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if status, ok := Main(); ok {
		os.Exit(status)
	}
	goleak.VerifyTestMain(m)
}

// byClient orders connections, whose ends log them in different orders.
func byClient(l Log) []Connection {
	return slices.SortedFunc(slices.Values(l.Connections), func(a, b Connection) int { return a.Client.Compare(b.Client) })
}

// TestRoles plays client and server in processes of their own: both have to agree on
// where each request and answer begins and ends.
func TestRoles(t *testing.T) {
	dir := t.TempDir()
	server := ServerPlan{Helper: true, Listen: "127.0.0.1:0", Dir: dir}
	client := ClientPlan{Helper: true, Requests: 60, Concurrency: 4, Seed: 7, MaxBytes: 300_000, Store: true}
	clientLog, serverLog := playBoth(t, server, client, "")
	if len(clientLog.Exchanges) != client.Requests || len(serverLog.Exchanges) != client.Requests {
		t.Fatalf("%d requests were sent, %d came, want %d", len(clientLog.Exchanges), len(serverLog.Exchanges), client.Requests)
	}
	var sent []Connection
	for _, c := range byClient(clientLog) {
		if c.DialledFor == 0 {
			t.Errorf("nobody knows for which request %s was dialled", c.Client)
		}
		c.DialledFor = 0 // which a server does not know
		if len(c.Requests) > 0 {
			sent = append(sent, c)
		}
	}
	served := slices.DeleteFunc(byClient(serverLog), func(c Connection) bool { return len(c.Requests) == 0 })
	if diff := gocmp.Diff(sent, served, gocmp.Comparer(equalAddress)); diff != "" {
		t.Errorf("connections as the client has them and as the server has them (-client +server):\n%s", diff)
	}
	if len(sent) < 10 || len(sent) >= client.Requests {
		t.Errorf("%d connections for %d requests: want some with several requests and some with one", len(sent), client.Requests)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != client.Requests {
		t.Errorf("%d files, %v: want one a request", len(files), err)
	}
	if _, err := New(clientLog, serverLog); err != nil {
		t.Error(err)
	}
}

// TestTLSRoles expects the bytes of TLS before the first request to be of none.
func TestTLSRoles(t *testing.T) {
	server := ServerPlan{Helper: true, Listen: "127.0.0.1:0", Certificate: filepath.Join(t.TempDir(), "certificate")}
	clientLog, serverLog := playBoth(t, server, ClientPlan{Helper: true, Requests: 12, Concurrency: 2, Seed: 3, MaxBytes: 50_000}, server.Certificate)
	truth, err := New(clientLog, serverLog)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range truth.connections {
		if len(c.Requests) == 0 {
			continue // dialled, and then not needed
		}
		if setupEnd(c.Requests) < 100 || setupEnd(c.Answers) < 100 {
			t.Errorf("requests of %s begin at byte %d, answers at %d: the handshake of TLS is missing", c.Client, setupEnd(c.Requests), setupEnd(c.Answers))
		}
		for _, p := range c.Requests {
			if p.To-p.From < 100 {
				t.Errorf("request %d has %d bytes", p.Request, p.To-p.From)
			}
		}
	}
}

// playBoth runs a server, and a client of it with a certificate to trust.
func playBoth(t *testing.T, server ServerPlan, client ClientPlan, trust string) (clientLog, serverLog Log) {
	t.Helper()
	p, err := StartServer(server)
	if err != nil {
		t.Fatal(err)
	}
	client.Target, client.Trust = "http://"+p.Address, trust
	if trust != "" {
		client.Target = "https://" + p.Address
	}
	clientLog, err = CallClient(client)
	serverLog, serverErr := p.Stop()
	if e := cmp.Or(err, serverErr); e != nil {
		t.Fatal(e)
	}
	return clientLog, serverLog
}

// TestHostile expects a server to have answered what it can, and the log to have what
// may be tied.
func TestHostile(t *testing.T) {
	p, err := StartServer(ServerPlan{Helper: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	clientLog, err := CallHostile(HostilePlan{Address: p.Address, Repeat: 1})
	serverLog, serverErr := p.Stop()
	if e := cmp.Or(err, serverErr); e != nil {
		t.Fatal(e)
	}
	truth, err := New(clientLog, serverLog)
	if err != nil {
		t.Fatal(err)
	}
	requests, tied := 0, 0
	for _, c := range hostileCases() {
		for _, r := range c.requests {
			requests++
			if r.tied {
				tied++
			}
		}
	}
	got := 0
	for _, e := range truth.Exchanges() {
		if e.TraceID != "" {
			got++
		}
	}
	if len(truth.exchanges) != requests || got != tied || len(serverLog.Exchanges) < requests-6 {
		t.Errorf("%d requests, %d with a span, %d answered; want %d, %d and nearly all", len(truth.exchanges), got, len(serverLog.Exchanges), requests, tied)
	}
}

// TestNewRefuses gives it logs that cannot be of one run.
func TestNewRefuses(t *testing.T) {
	one := Log{Exchanges: []Exchange{{Request: 1}}}
	connection := Connection{Client: clientAt, Server: serverAt}
	overlapping := connection
	overlapping.Answers = []Part{{1, 0, 10}, {2, 9, 12}}
	tests := map[string][2]Log{
		"a request twice":            {{Exchanges: []Exchange{{Request: 1}, {Request: 1}}}, {}},
		"a request that nobody sent": {one, {Exchanges: []Exchange{{Request: 2}}}},
		"a request that came twice":  {one, {Exchanges: []Exchange{{Request: 1, ServerSpan: "a"}, {Request: 1, ServerSpan: "b"}}}},
		"a connection twice":         {{Connections: []Connection{connection, connection}}, {}},
		"bytes of two answers":       {one, {Connections: []Connection{overlapping}}},
	}
	for name, logs := range tests {
		if _, err := New(logs[0], logs[1]); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
