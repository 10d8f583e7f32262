#!/usr/bin/env bash
# Measures what tracing costs, against no tracing and against other tools, in VMs
# whose clock counts instructions (test/vm/run.sh --icount): the ratios repeat
# within a percent however busy this machine is. Prints Markdown tables.
#
# usage: vm.sh [--kernel 6.12] [--part packets|block|correlate]… [--quick] [--binary FILE] [--keep DIR]
#   --part    only this part (default: all)
#   --quick   our configurations only
#   --binary  an otel-kprobe built before, instead of one of this source
#   --keep    directory for logs and summaries
# Environment: BENCH_CONFIGURATIONS and BENCH_BLOCK_CONFIGURATIONS, some of those
# of guest.sh (untraced first) and of block_guest.sh; BENCH_IOS, BENCH_ROUNDS;
# BENCH_REQUESTS of part correlate.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
kernel=6.12 binary='' keep='' parts=()
packets=(${BENCH_CONFIGURATIONS:-untraced ours-none ours-all ours-all-burst pwru-none pwru-all})
block=(${BENCH_BLOCK_CONFIGURATIONS:-ours-histogram ours-export ours-export-burst biolatency biosnoop biolatency.bt biosnoop.bt})
correlate=(untraced ours-none-off ours-none ours-all-burst-off ours-all-burst)

while [[ $# -gt 0 ]]; do
	case $1 in
	--kernel) kernel=$2 && shift 2 ;;
	--part) parts+=("$2") && shift 2 ;;
	--binary) binary=$2 && shift 2 ;;
	--keep) keep=$2 && shift 2 ;;
	--quick)
		packets=(untraced ours-none ours-all ours-all-burst)
		block=(ours-histogram ours-export ours-export-burst)
		shift
		;;
	*)
		sed -n 's/^# \{0,1\}//p' "$0" | sed -n '/^usage/,$p' >&2
		exit 2
		;;
	esac
done
[[ ${#parts[@]} -gt 0 ]] || parts=(packets block correlate)

share=$(mktemp -d -t otel-kprobe-bench.XXXXXX)
trap 'rm -rf "$share"' EXIT
if [[ -n $binary ]]; then
	cp "$binary" "$share/otel-kprobe"
else
	(cd "$repository" && go build -o "$share/otel-kprobe" ./cmd/otel-kprobe)
fi
cp "$here"/*guest.sh "$share/"
(cd "$repository" && CGO_ENABLED=0 go test -c -o "$share/otelkprobe.test" ./otelkprobe)
(cd "$here/.." && CGO_ENABLED=0 go build -o "$share/requests" ./bench/requests)

options=()
[[ -z $keep ]] || options+=(--out "$keep" --env BENCH_KEEP=yes)
for name in BENCH_IOS BENCH_ROUNDS; do
	[[ -z ${!name:-} ]] || options+=(--env "$name=${!name}")
done

# Boots, and runs the script $1 with the configurations after it; its lines go
# to $share/results.
measure() {
	"$repository/test/vm/run.sh" --kernel "$kernel" --icount --peers --mem 6144 --timeout 1800 \
		--share "$share" "${options[@]}" -- /bin/bash "/share/$1" "${@:2}" >"$share/results"
}

# Columns: configuration, Mbit/s, ping ms, frames, lost, start s, stop s, MB.
packets_table() {
	awk -F '\t' -v kernel="$kernel" '
		BEGIN {
			printf "Linux %s, instruction-count clock: TCP and ping -f over a veth pair\n\n", kernel
			print "| configuration | Mbit/s | ratio | ping -f ms | frames | lost | start s | stop s | RSS MB |"
			print "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
		}
		$1 == "untraced" { base = $2 }
		{
			printf "| %s | %s | %.3f | %s | %s | %s | %s | %s | %s |\n", \
				$1, $2, base ? $2 / base : 0, $3, $4, $5, $6, $7, $8
		}' "$share/results"
}

# Columns as packets_table's, and requests a second of programs that do not tell and of
# such that do, nanoseconds of a statement and of a datagram: what spans of applications
# cost.
correlate_table() {
	awk -F '\t' -v kernel="$kernel" '
		BEGIN {
			printf "Linux %s, instruction-count clock: TCP, and HTTP requests with bodies of 1 KiB, over a veth pair\n\n", kernel
			print "| configuration | Mbit/s | ratio | requests/s | ratio | requests/s, telling | ratio | statement ns | datagram ns | frames | lost | start s | RSS MB |"
			print "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
		}
		$1 == "untraced" { base = $2; silent = $9; telling = $10 }
		{
			printf "| %s | %s | %.3f | %s | %.3f | %s | %.3f | %s | %s | %s | %s | %s | %s |\n", $1, $2, \
				$2 / base, $9, $9 / silent, $10, $10 / telling, $11, $12, $4, $5, $6, $8
		}' "$share/results"
}

# Columns: round, configuration, requests of a run, ms untraced at depth 1 and
# 16, ms traced at both, requests seen, lost, start s, MB. Every round is a row;
# a ratio is to the untraced run just before.
block_table() {
	awk -F '\t' -v kernel="$kernel" '
		BEGIN {
			printf "Linux %s, instruction-count clock: fio randread 4k, direct, on null_blk\n\n", kernel
			print "| configuration | round | qd 1 µs | untraced | ratio | qd 16 µs | untraced | ratio | requests | lost | start s | RSS MB |"
			print "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
		}
		{
			printf "| %s | %d | %.1f | %.1f | %.3f | %.1f | %.1f | %.3f | %s | %s | %s | %s |\n", $2, $1, \
				$6 * 1000 / $3, $4 * 1000 / $3, $4 / $6, $7 * 1000 / $3, $5 * 1000 / $3, $5 / $7, $8, $9, $10, $11
		}' "$share/results"
}

for part in "${parts[@]}"; do
	case $part in
	packets) measure guest.sh "${packets[@]}" && packets_table ;;
	block) measure block_guest.sh "${block[@]}" && block_table ;;
	correlate)
		options+=(--env "BENCH_REQUESTS=${BENCH_REQUESTS:-1000}")
		measure guest.sh "${correlate[@]}" && correlate_table
		;;
	*) echo "there is no part $part: packets, block and correlate are" >&2 && exit 2 ;;
	esac
	echo
done
