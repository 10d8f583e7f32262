#!/usr/bin/env bash
# Runs in the VM, started by vm.sh: measures what a block tracer costs the reader
# of a disk that takes no time (null_blk without memory), one tracer after
# another in one boot, with an untraced run before each. Prints one line of
# tab-separated values for each round and configuration.
#
# usage: block_guest.sh CONFIGURATION…   ours-histogram, ours-export,
#        ours-export-burst, biolatency, biosnoop, biolatency.bt, biosnoop.bt
set -euo pipefail

ios=${BENCH_IOS:-10000} # of one run of fio
rounds=${BENCH_ROUNDS:-2}
ours=${BENCH_OURS:-/share/otel-kprobe}
tmp=$(mktemp -d)
work=/dev/shm
disk=nullb0

make_disk() {
	local dir=/sys/kernel/config/nullb/$disk
	modprobe null_blk nr_devices=0
	[[ -d /sys/kernel/config/nullb ]] || mount -t configfs configfs /sys/kernel/config
	mkdir "$dir"
	echo 1024 >"$dir/size"
	echo 0 >"$dir/memory_backed"
	echo 1 >"$dir/power"
	echo none >"/sys/block/$disk/queue/scheduler"
}

# A sleep without a process.
mkfifo "$tmp/never"
exec 9<>"$tmp/never"
nap() { read -r -t "$1" -u 9 || true; }

now_us() { echo "${EPOCHREALTIME/./}"; }

# Prints seconds with two decimals since the microseconds $1.
since() { awk -v d="$(($(now_us) - $1))" 'BEGIN { printf "%.2f", d / 1e6 }'; }

# Prints milliseconds for all reads at a queue depth of $1: fio's own run time,
# without its start.
read_all() {
	local engine=psync
	[[ $1 -eq 1 ]] || engine=libaio
	fio --name=reads --filename="/dev/$disk" --rw=randread --bs=4k --direct=1 --thread=1 \
		--ioengine="$engine" --iodepth="$1" --number_ios="$ios" --size=1g --norandommap=1 --randseed=1 \
		--output-format=terse | awk -F ';' '{ print $9; exit }'
}

# Starts configuration $1 and returns when it traces. Sets tracer and start_s.
start_tracer() {
	local began ready=$tmp/ready log=$work/trace.log
	rm -f "$ready" "$work"/trace.* "$tmp"/summary
	: >"$log"
	began=$(now_us)
	case $1 in
	ours-histogram) "$ours" block --device "$disk" --histogram-only \
		--ready-file "$ready" --summary-file "$tmp/summary" >"$log" 2>&1 & ;;
	ours-export) "$ours" block --device "$disk" --exporter file --output "$work/trace.jsonl" \
		--ready-file "$ready" --summary-file "$tmp/summary" >"$log" 2>&1 & ;;
	# A burst is recorded first and exported when the processor is free again.
	ours-export-burst) nice -n 19 "$ours" block --device "$disk" --ring-size $((64 << 20)) \
		--exporter file --output "$work/trace.jsonl" \
		--ready-file "$ready" --summary-file "$tmp/summary" >"$log" 2>&1 & ;;
	biolatency) stdbuf -oL biolatency-libbpf >"$log" 2>&1 & ;;
	biosnoop) stdbuf -oL biosnoop-libbpf -d "$disk" >"$log" 2>&1 & ;;
	*.bt) bpftrace -B line "$(type -p "$1")" >"$log" 2>&1 & ;;
	*)
		echo "unknown configuration $1" >&2
		exit 2
		;;
	esac
	tracer=$!
	# Others' tools have attached when they print their heading.
	until [[ -e $ready ]] || { [[ $1 != ours-* ]] && grep -qE 'Tracing|TIME' "$log"; }; do
		if ! kill -0 "$tracer" 2>/dev/null; then
			echo "$1 ended before it was ready: $(tail -n 3 "$log")" >&2
			exit 1
		fi
		nap 0.01
	done
	start_s=$(since "$began")
	nap 2 # what is read or compiled in the background is not the cost of tracing
}

# Ends the tracer and sets rss_mb, seen (requests that it counted or showed) and
# lost.
stop_tracer() {
	rss_mb=$(awk '/^VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$tracer/status")
	kill -INT "$tracer"
	wait "$tracer" || true
	case $1 in
	ours-histogram) seen=$(member count) lost=$(kernel_lost) ;;
	ours-*) seen=$(member requests) lost=$(kernel_lost) ;;
	biolatency*) seen=$(awk -F '[)|]' '/\|/ { n = split($(NF - 2), f, " "); sum += f[n] } END { print sum + 0 }' "$work/trace.log") lost=- ;;
	*) seen=$(grep -c " fio " "$work/trace.log" || true) lost=$((2 * ios - seen)) ;;
	esac
	[[ -z ${BENCH_KEEP:-} ]] || head -n 60 "$work/trace.log" >"/out/$1.log"
	[[ -z ${BENCH_KEEP:-} || ! -e $tmp/summary ]] || cp "$tmp/summary" "/out/$1.summary"
}

# The summary is indented JSON, one member a line; the guest has no jq.
member() { awk -F '[:,]' -v name="\"$1\"" '$1 ~ name"$" { print $2 + 0; exit }' "$tmp/summary"; }

kernel_lost() {
	awk -F '[:,]' '/"kernel_lost"/ { inside = 1; next } /}/ { inside = 0 }
		inside { sum += $2 } END { print sum + 0 }' "$tmp/summary"
}

make_disk
read_all 1 >/dev/null # so that the first run is not the one that warms up
read_all 16 >/dev/null
for ((round = 1; round <= rounds; round++)); do
	for configuration in "$@"; do
		untraced=("$(read_all 1)" "$(read_all 16)")
		start_tracer "$configuration"
		traced=("$(read_all 1)" "$(read_all 16)")
		stop_tracer "$configuration"
		printf '%s\t' "$round" "$configuration" "$ios" "${untraced[@]}" "${traced[@]}" "$seen" "$lost" "$start_s"
		printf '%s\n' "$rss_mb"
	done
done
