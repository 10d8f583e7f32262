//go:build vm

package scenario

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// proxyConfig is nginx's: one process, which keeps connections to the server.
const proxyConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 64; }
http {
	access_log off;
	client_max_body_size 4m;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	upstream behind { server %[2]s; keepalive 8; }
	server {
		listen %[3]s;
		location / {
			proxy_pass http://behind;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`

// TestHTTPProxy has nginx between client and server, which knows nothing of spans and
// passes traceparent on. The packets of both connections are of the client's spans.
func TestHTTPProxy(t *testing.T) {
	address := net.JoinHostPort(rightIP, strconv.Itoa(portProxy))
	run := httpRun{requests: 100, concurrency: 4, maxBytes: 300_000, target: address}
	startProxy(t, address, net.JoinHostPort(rightIP, strconv.Itoa(portHTTP)))
	_, v, packets := run.tracePackets(t)
	checkRight(t, &run, v)
	checkRecall(t, v)
	checkSources(t, packets, "payload")
}

// startProxy starts nginx in right and waits until it listens.
func startProxy(t *testing.T, listen, behind string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, proxyConfig, dir, behind, listen), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("ip", "netns", "exec", rightNS, "nginx", "-p", dir, "-e", "stderr", "-c", config, "-g", "user root;")
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error says that it has ended already
		<-ended
	})
	for deadline := time.Now().Add(nodeWithin); ; time.Sleep(20 * time.Millisecond) {
		err := inNS(leftNS, func() error {
			conn, err := net.DialTimeout("tcp", listen, time.Second)
			if err != nil {
				return err
			}
			return conn.Close()
		})
		if err == nil {
			return
		}
		select {
		case failure := <-ended:
			ended <- failure // for the clean-up
			t.Fatalf("nginx ended: %v: %s", failure, stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not listen: %v", err)
		}
	}
}
