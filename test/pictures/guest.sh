#!/bin/bash
# Runs in the VM and makes what the pictures show: a ping through veth, a packet that a
# rule of nftables drops, a synced write to a RAID 1, and requests to the application of
# demo/. All spans go to JAEGER, a URL; those of the kernel to /out/SCENE.jsonl as well,
# by which the program finds the traces.
set -euo pipefail

# Starts otel-kprobe for the scene $1, and returns when it is attached.
start() {
	local scene=$1
	shift
	# Jaeger takes no histograms.
	OTEL_METRICS_EXPORTER=none /share/otel-kprobe "$@" --exporter otlp,file --otlp="$JAEGER" \
		--output "/out/$scene.jsonl" --ready-file "/tmp/$scene" --duration 120s &
	tracers+=($!)
	await [ -e "/tmp/$scene" ]
}

# Ends all that start started, and expects that nothing went wrong.
stop() {
	local tracer
	sleep 1
	for tracer in "${tracers[@]}"; do
		kill -TERM "$tracer"
		wait "$tracer"
	done
	tracers=()
}

await() {
	local tries
	for ((tries = 0; tries < 3000; tries++)); do
		! "$@" 2>/dev/null || return 0
		sleep 0.1
	done
	echo "waited in vain for: $*" >&2
	exit 1
}

serves() { bash -c ": </dev/tcp/127.0.0.1/$1"; }

network() {
	ip netns add shop
	ip link add veth-shop type veth peer name eth0 netns shop
	ip addr add 10.77.0.1/24 dev veth-shop
	ip link set veth-shop up
	ip -n shop addr add 10.77.0.2/24 dev eth0
	ip -n shop link set eth0 up
	ip -n shop link set lo up
	ip netns exec shop nft -f - <<-RULES
		table inet firewall {
			chain input {
				type filter hook input priority 0
				udp dport 9999 drop
			}
		}
	RULES
	# The neighbour is known before the first picture.
	ping -q -c 1 10.77.0.2 >/dev/null
}

# The functions that one expects on a packet's way from a socket to a firewall's rule.
functions() {
	echo 'ip_output|__dev_queue_xmit|veth_xmit|__netif_receive_skb|ip_rcv|ip_local_deliver|nf_hook_slow|nft_do_chain_inet'
}

# A file system on two mirrored halves of the scratch disk.
storage() {
	local half=$(($(blockdev --getsz /dev/scratch) / 2)) i
	for i in 0 1; do
		# There is no udev: the only node is the kernel's.
		echo "0 $half linear /dev/scratch $((i * half))" | dmsetup create "half$i" --noudevsync
		await [ -b "/dev/dm-$i" ]
	done
	mdadm --build /dev/md0 --quiet --level=1 --raid-devices=2 --assume-clean /dev/dm-0 /dev/dm-1
	await [ -b /dev/md0 ]
	mkfs.ext4 -q /dev/md0
	mkdir /data
	mount /dev/md0 /data
}

# Runs the application's part $1 with the flags behind it.
demo() { exec env OTEL_EXPORTER_OTLP_ENDPOINT="$JAEGER" /share/demo-app "$@"; }

tracers=()
network
storage

start packet packets --services-per-layer 'icmp and host 10.77.0.2'
ping -q -c 6 -i 0.5 10.77.0.2 >/dev/null
stop

start drop packets --services-per-layer --filter-func "$(functions)" 'udp port 9999'
for _ in {1..6}; do
	echo order >/dev/udp/10.77.0.2/9999
done
stop

start block block
for i in {1..4}; do
	dd if=/dev/zero of="/data/written$i" bs=64k count=1 conv=fsync status=none
done
stop

demo back --listen=127.0.0.1:8081 --dir=/data &
back=$!
demo front --listen=127.0.0.1:8080 --back=http://127.0.0.1:8081 &
front=$!
await serves 8081
await serves 8080
start request packets --correlate child --filter-func 'ip_output|ip_rcv|tcp_v4_rcv|skb_copy_datagram_iter' \
	'tcp port 8080 or tcp port 8081'
start request-block block --correlate full
demo load --target=http://127.0.0.1:8080 --rate=1 --concurrency=1 --duration=8s --mix=order=1 --size=65536 &
wait $!
# A summary is made when nothing has come for two seconds.
sleep 3
stop
kill -TERM "$front"
wait "$front"
kill -TERM "$back"
wait "$back"
