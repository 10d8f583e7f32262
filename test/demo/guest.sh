#!/usr/bin/env bash
# Runs where the kernel can trace: follows three pings to TARGET, then what dd
# and its fsync ask of the disk DISK (empty: of the one under OUT), and shows
# them. OUT, PROGRAM, TARGET, DISK and ENDPOINT (empty: do not send) come from
# demo.sh.
set -euo pipefail
ready=$OUT/ready

# A rule makes the netfilter hooks of the path visible.
if command -v nft >/dev/null && [[ $TARGET != 127.0.0.1 ]]; then
	nft -f - <<-RULES
		table inet demo {
			chain out { type filter hook output priority 0; counter
			}
			chain post { type filter hook postrouting priority 0; counter
			}
		}
	RULES
fi

# Starts the program with the spans of part $1 in a file of their own, and
# returns when it is ready.
start() {
	local part=$1 exporters=(--exporter console,file)
	shift
	[[ -z $ENDPOINT ]] || exporters=(--exporter console,file,otlp "--otlp=$ENDPOINT")
	rm -f "$ready"
	"$PROGRAM" "$@" "${exporters[@]}" --output "$OUT/$part.jsonl" \
		--ready-file "$ready" --summary-file "$OUT/$part.summary.json" &
	tracer=$!
	trap 'kill $tracer 2>/dev/null || true' EXIT
	until [[ -e $ready ]]; do
		kill -0 $tracer 2>/dev/null || { wait $tracer; exit 1; }
		sleep 0.1
	done
}

stop() {
	sleep 1
	kill -TERM $tracer 2>/dev/null || true # it may have reached its limit
	trap - EXIT
	wait $tracer
	rm -f "$ready"
}

start spans packets "icmp and host $TARGET"
ping -q -c 3 -i 0.3 "$TARGET" >"$OUT/ping.txt"
stop

echo
if [[ -n $DISK ]]; then
	echo "What dd asks of the disk: two writes past the page cache, and an fsync."
	start disk block --device "$DISK"
	dd if=/dev/zero of="$DISK" bs=64k count=2 oflag=direct conv=fsync status=none
else
	# The file may lie on any device, which is then the file system's to choose.
	echo "What dd writes to a file and syncs, as its process submits it."
	start disk block --op write,flush --limit-traces 3
	dd if=/dev/zero of="$OUT/written" bs=64k count=4 oflag=direct conv=fsync status=none
	rm -f "$OUT/written"
fi
stop
