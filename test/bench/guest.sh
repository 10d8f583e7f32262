#!/usr/bin/env bash
# Runs in the VM, started by vm.sh: measures throughput, latency, start, stop
# and memory of one tracer after another over the same veth pair, in one boot,
# and prints one line of tab-separated values for each configuration.
#
# usage: guest.sh CONFIGURATION…   untraced, ours-none, ours-all, ours-all-burst,
#                                  pwru-none, pwru-all; ours-… may end in -off: without
#                                  spans of applications
# With BENCH_REQUESTS=N also N HTTP requests, by programs that do not tell otel-kprobe of
# their spans and by programs that do, and what it costs to tell of one span, by a
# statement and, for comparison, by a datagram.
set -euo pipefail

seconds=${BENCH_SECONDS:-3} # of one iperf3 run
pings=${BENCH_PINGS:-5000} # of one flood ping
ours=${BENCH_OURS:-/share/otel-kprobe}
none='host 203.0.113.7 and tcp port 4711' # matches no packet of ours
all='ip or ip6 or arp'                    # matches every packet of ours
tmp=$(mktemp -d)
work=/dev/shm

make_network() {
	local ns
	ip netns add client
	ip netns add server
	ip link add veth-client netns client type veth peer name veth-server netns server
	ip -n client addr add 10.9.0.1/24 dev veth-client
	ip -n server addr add 10.9.0.2/24 dev veth-server
	for ns in client server; do
		ip -n "$ns" link set lo up
		ip -n "$ns" link set "veth-$ns" up
	done
	ip netns exec server iperf3 -s -D -I "$tmp/iperf3.pid" >/dev/null
	sleep 1
	[[ -z ${BENCH_REQUESTS:-} ]] || serve_requests
	throughput 1 >/dev/null # so that the first configuration is not the one that warms up
}

serve_requests() {
	mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
	ip netns exec server /share/requests -serve 10.9.0.2:8080 &
	ip netns exec server /share/requests -serve 10.9.0.2:8081 -tell &
}

# A sleep without a process.
exec 9<>/dev/null
mkfifo "$tmp/never"
exec 9<>"$tmp/never"
nap() { read -r -t "$1" -u 9 || true; }

now_us() { echo "${EPOCHREALTIME/./}"; }

# Prints seconds with two decimals since the microseconds $1.
since() { awk -v d="$(($(now_us) - $1))" 'BEGIN { printf "%.2f", d / 1e6 }'; }

# Sets tracer, its process id, and start_s. $1 is the configuration.
start_tracer() {
	local filter=$none began ready=$tmp/ready how=("$ours") size=()
	tracer='' start_s='' stop_s='' rss_mb='' frames='' lost=''
	[[ $1 != *-all* ]] || filter=$all
	rm -f "$ready" "$work"/trace.* "$tmp"/summary
	began=$(now_us)
	case $1 in
	untraced) return ;;
	ours-*)
		# A burst is recorded first and exported when the processor is free again.
		[[ $1 != *-burst* ]] || how=(nice -n 19 "$ours") size=(--ring-size $((1 << 30)))
		[[ $1 != *-off ]] || size+=(--correlate=off)
		"${how[@]}" packets "${size[@]}" --ready-file "$ready" --summary-file "$tmp/summary" \
			--exporter file --output "$work/trace.jsonl" "$filter" >"$tmp/log" 2>&1 &
		;;
	pwru-*)
		pwru --ready-file "$ready" --output-file "$work/trace.pwru" "$filter" >"$tmp/log" 2>&1 &
		;;
	*)
		echo "unknown configuration $1" >&2
		exit 2
		;;
	esac
	tracer=$!
	until [[ -e $ready ]]; do
		if ! kill -0 "$tracer" 2>/dev/null; then
			echo "$1 ended before it was ready: $(tail -n 3 "$tmp/log")" >&2
			exit 1
		fi
		nap 0.01
	done
	start_s=$(since "$began")
	nap 2 # what is read or compiled in the background is not the cost of tracing
}

# Ends the tracer and sets stop_s, rss_mb, frames and lost.
stop_tracer() {
	local began
	[[ -n $tracer ]] || return 0
	rss_mb=$(awk '/^VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$tracer/status")
	began=$(now_us)
	kill -TERM "$tracer"
	wait "$tracer" || true
	stop_s=$(since "$began")
	case $1 in
	ours-*) read_summary ;;
	pwru-*) frames=$(grep -c . "$work/trace.pwru" || true) lost=unknown ;;
	esac
	[[ -z ${BENCH_KEEP:-} ]] || cp "$tmp/log" "/out/$1.log"
	[[ -z ${BENCH_KEEP:-} || ! -e $tmp/summary ]] || cp "$tmp/summary" "/out/$1.summary"
}

# The summary is indented JSON, one member a line; the guest has no jq. Lost is
# all that the kernel side counted; recursion misses are among it.
read_summary() {
	frames=$(awk -F '[:,]' '$1 ~ /"frames"/ { print $2 + 0; exit }' "$tmp/summary")
	lost=$(awk -F '[:,]' '/"kernel_lost"/ { inside = 1; next } /}/ { inside = 0 }
		inside { sum += $2 } END { print sum + 0 }' "$tmp/summary")
}

# Prints Mbit/s of the receiver; $1 is for how many seconds. The window is small
# enough that the processor is the limit, not a queue that overflows.
throughput() {
	ip netns exec client iperf3 -c 10.9.0.2 -t "$1" -w 256K -f m |
		awk '/receiver/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /bits\/sec/) printf "%.0f", $i }'
}

# Prints milliseconds for all echo requests.
flood() {
	ip netns exec client ping -q -f -c "$pings" 10.9.0.2 |
		awk '/transmitted/ { sub(/ms$/, "", $NF); print $NF }'
}

# Prints requests a second; $1 is the server's port, the rest goes to the client.
requests() {
	if [[ -z ${BENCH_REQUESTS:-} ]]; then
		echo -
		return
	fi
	ip netns exec client /share/requests -ask "10.9.0.2:$1" -count "$BENCH_REQUESTS" "${@:2}"
}

# Prints nanoseconds of benchmark $1. A program is probed within a second after it was
# started first, and its file stays so for a while.
statement() {
	if [[ -z ${BENCH_REQUESTS:-} ]]; then
		echo -
		return
	fi
	timeout 2 /share/otelkprobe.test -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime 10s >/dev/null || true
	/share/otelkprobe.test -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime 20000x |
		awk '$4 == "ns/op" { printf "%.0f", $3 }'
}

make_network
for configuration in "$@"; do
	start_tracer "$configuration"
	mbit=$(throughput "$seconds")
	ping_ms=$(flood)
	silent=$(requests 8080)
	telling=$(requests 8081 -tell)
	stated=$(statement SpanStarted)
	sent=$(statement UnixSocket)
	stop_tracer "$configuration"
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$configuration" "$mbit" "$ping_ms" \
		"${frames:--}" "${lost:--}" "${start_s:--}" "${stop_s:--}" "${rss_mb:--}" "$silent" "$telling" "$stated" "$sent"
done
