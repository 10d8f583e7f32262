//go:build vm

package scenario

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The networks of TestPaths, each in namespaces of its own. Neighbours are fixed
// and there is no IPv6, so that nothing passes but what the test sends.
//
//	tunnels  pta pva 10.91.0.1 ── 10.91.0.2 pvb ptb, and in both px pg pi pe pw
//	         (vxlan, geneve, ipip, gre, wireguard) 10.92.1 to 10.92.5
//	router   psa psv 10.94.1.2 ── pr1 prt pr2 (MTU 1200) ── 10.94.2.2 pdv psb
//	bridge   pba pbx 10.93.0.1 ── pp1 pbr pp2 ── 10.93.0.2 pby pbb
const pathsScript = `
set -e
modprobe -a veth bridge vxlan geneve ipip ip_gre wireguard
for ns in pta ptb pbr pba pbb psa prt psb; do
	ip netns add $ns
	ip netns exec $ns sh -c 'for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done'
	ip -n $ns link set lo up
done
# cable NUMBER NS IF ADDRESS NS IF ADDRESS: a veth pair; an address may be missing (-).
cable() {
	ip link add $3 netns $2 address 02:00:00:00:$1:01 type veth peer name $6 netns $5 address 02:00:00:00:$1:02
	ip -n $2 link set $3 up
	ip -n $5 link set $6 up
	[ $4 = - ] || ip -n $2 addr add $4/24 dev $3
	[ $7 = - ] || ip -n $5 addr add $7/24 dev $6
}
# knows NS IF ADDRESS MAC
knows() { ip -n $1 neigh replace $3 dev $2 lladdr 02:00:00:00:$4 nud permanent; }
cable 10 pta pva 10.91.0.1 ptb pvb 10.91.0.2
cable 11 psa psv 10.94.1.2 prt pr1 10.94.1.1
cable 12 prt pr2 10.94.2.1 psb pdv 10.94.2.2
cable 13 pba pbx 10.93.0.1 pbr pp1 -
cable 14 pbr pp2 - pbb pby 10.93.0.2
knows pta pva 10.91.0.2 10:02
knows ptb pvb 10.91.0.1 10:01
knows psa psv 10.94.1.1 11:02
knows prt pr1 10.94.1.2 11:01
knows prt pr2 10.94.2.2 12:02
knows psb pdv 10.94.2.1 12:01
knows pba pbx 10.93.0.2 14:02
knows pbb pby 10.93.0.1 13:01
ip -n pbr link add pbridge type bridge
ip -n pbr link set pp1 master pbridge
ip -n pbr link set pp2 master pbridge
ip -n pbr link set pbridge up
ip netns exec prt sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip -n psa route add default via 10.94.1.1
ip -n psb route add default via 10.94.2.1
ip -n prt link set pr2 mtu 1200
wg genkey >a.key
wg genkey >b.key
# tunnels NS LOCAL REMOTE HOST KEY PEER: the five tunnels of one side
tunnels() {
	ip -n $1 link add px type vxlan id 7 local $2 remote $3 dstport 4789
	ip -n $1 link add pg type geneve id 8 remote $3
	ip -n $1 link add pi type ipip local $2 remote $3
	ip -n $1 link add pe type gre local $2 remote $3
	ip -n $1 link add pw type wireguard
	ip netns exec $1 wg set pw listen-port 51820 private-key $5 peer $(wg pubkey <$6) \
		allowed-ips 10.92.5.0/24 endpoint $3:51820
	i=1
	for device in px pg pi pe pw; do
		ip -n $1 addr add 10.92.$i.$4/24 dev $device
		ip -n $1 link set $device up
		i=$((i + 1))
	done
}
tunnels pta 10.91.0.1 10.91.0.2 1 a.key b.key
tunnels ptb 10.91.0.2 10.91.0.1 2 b.key a.key
# The handshake of wireguard and the bridge's table are made before.
for i in 1 2 3 4 5; do ip netns exec pta ping -q -c 1 -W 5 10.92.$i.2; done
ip netns exec pba ping -q -c 1 -W 5 10.93.0.2
`

var pathsNamespaces = []string{"pta", "ptb", "pbr", "pba", "pbb", "psa", "prt", "psb"}

func setUpPaths(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for _, ns := range pathsNamespaces {
			if _, err := command("ip", "netns", "del", ns); err != nil {
				t.Error(err)
			}
		}
	})
	cmd := exec.Command("sh", "-c", pathsScript)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("set up the networks of paths: %v\n%s", err, out)
	}
}

// linkCounters are how many packets went in and out of each interface of the
// router and its neighbours, as the kernel counts them.
func linkCounters(t *testing.T) map[string]int64 {
	t.Helper()
	counters := map[string]int64{}
	for _, at := range [][2]string{{"psa", "psv"}, {"prt", "pr1"}, {"prt", "pr2"}, {"psb", "pdv"}} {
		var links []struct {
			Stats struct {
				Rx, Tx struct{ Packets int64 }
			} `json:"stats64"`
		}
		text := must(t, "ip", "-n", at[0], "-s", "-j", "link", "show", "dev", at[1])
		if err := json.Unmarshal([]byte(text), &links); err != nil || len(links) != 1 {
			t.Fatalf("counters of %s: %v\n%s", at[1], err, text)
		}
		counters[at[1]] = links[0].Stats.Rx.Packets + links[0].Stats.Tx.Packets
	}
	return counters
}

// lonePing makes an interface pair and, for its far end, a namespace without a name,
// in which only a process is, sends a ping, and returns what the namespace is
// called after that process.
func lonePing(t *testing.T) string {
	t.Helper()
	owner := exec.Command("unshare", "--net", "sleep", "300")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(owner.Process.Pid)
	t.Cleanup(func() {
		_ = owner.Process.Kill() // it is there: nobody has waited for it
		_ = owner.Wait()         // killed
	})
	comm := "/proc/" + pid + "/comm"
	for range 100 {
		if text, err := os.ReadFile(comm); err == nil && strings.TrimSpace(string(text)) == "sleep" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, "ip", "link", "add", "pl0", "netns", "psa", "type", "veth", "peer", "name", "pl1", "netns", pid)
	must(t, "ip", "-n", "psa", "addr", "add", "10.96.0.1/24", "dev", "pl0")
	must(t, "ip", "-n", "psa", "link", "set", "pl0", "up")
	inside := []string{"nsenter", "--net=/proc/" + pid + "/ns/net", "ip"}
	must(t, append(inside, "addr", "add", "10.96.0.2/24", "dev", "pl1")...)
	must(t, append(inside, "link", "set", "pl1", "up")...)
	ping(t, "psa", "10.96.0.2", 1)
	return "sleep[" + pid + "]"
}
