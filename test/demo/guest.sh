#!/usr/bin/env bash
# Runs where the kernel can trace: follows three pings to TARGET and shows them.
# OUT, PROGRAM, TARGET and ENDPOINT (empty: do not send) come from demo.sh.
set -euo pipefail
ready=$OUT/ready

exporters=(--exporter console,file --output "$OUT/spans.jsonl")
if [[ -n $ENDPOINT ]]; then
	exporters=(--exporter console,file,otlp --output "$OUT/spans.jsonl" "--otlp=$ENDPOINT")
fi

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

"$PROGRAM" packets "${exporters[@]}" --ready-file "$ready" --summary-file "$OUT/summary.json" \
	"icmp and host $TARGET" &
tracer=$!
trap 'kill $tracer 2>/dev/null || true' EXIT
until [[ -e $ready ]]; do
	kill -0 $tracer 2>/dev/null || { wait $tracer; exit 1; }
	sleep 0.1
done
ping -q -c 3 -i 0.3 "$TARGET" >"$OUT/ping.txt"
sleep 1
kill -TERM $tracer
trap - EXIT
wait $tracer
rm -f "$ready"
