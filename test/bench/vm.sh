#!/usr/bin/env bash
# Measures what tracing costs, against no tracing and against pwru, in a VM
# whose clock counts instructions (test/vm/run.sh --icount): the ratios repeat
# within a percent however busy this machine is. Prints a Markdown table.
#
# usage: vm.sh [--kernel 6.12] [--quick] [--binary FILE] [--keep DIR]
#   --quick   our configurations only
#   --binary  an otel-kprobe built before, instead of one of this source
#   --keep    directory for logs and summaries
# Environment: BENCH_CONFIGURATIONS, some of untraced, ours-none, ours-all,
# pwru-none and pwru-all, untraced first.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
kernel=6.12 binary='' keep=''
configurations=(${BENCH_CONFIGURATIONS:-untraced ours-none ours-all ours-all-burst pwru-none pwru-all})

while [[ $# -gt 0 ]]; do
	case $1 in
	--kernel) kernel=$2 && shift 2 ;;
	--binary) binary=$2 && shift 2 ;;
	--keep) keep=$2 && shift 2 ;;
	--quick) configurations=(untraced ours-none ours-all ours-all-burst) && shift ;;
	*)
		sed -n 's/^# \{0,1\}//p' "$0" | sed -n '/^usage/,$p' >&2
		exit 2
		;;
	esac
done

share=$(mktemp -d -t otel-kprobe-bench.XXXXXX)
trap 'rm -rf "$share"' EXIT
if [[ -n $binary ]]; then
	cp "$binary" "$share/otel-kprobe"
else
	(cd "$repository" && go build -o "$share/otel-kprobe" ./cmd/otel-kprobe)
fi
cp "$here/guest.sh" "$share/"

out=()
[[ -z $keep ]] || out=(--out "$keep" --env BENCH_KEEP=yes)
"$repository/test/vm/run.sh" --kernel "$kernel" --icount --peers --mem 6144 --timeout 1800 \
	--share "$share" "${out[@]}" -- /bin/bash /share/guest.sh "${configurations[@]}" >"$share/results"

# Columns: configuration, Mbit/s, ping ms, frames, lost, start s, stop s, MB.
awk -F '\t' -v kernel="$kernel" '
	BEGIN {
		printf "Linux %s, instruction-count clock\n\n", kernel
		print "| configuration | Mbit/s | ratio | ping -f ms | frames | lost | start s | stop s | RSS MB |"
		print "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
	}
	$1 == "untraced" { base = $2 }
	{
		printf "| %s | %s | %.3f | %s | %s | %s | %s | %s | %s |\n", \
			$1, $2, base ? $2 / base : 0, $3, $4, $5, $6, $7, $8
	}' "$share/results"
