#!/usr/bin/env bash
# The main job on real traffic: the way of a ping through the kernel, as a tree
# on the terminal and as OTLP/JSON in out/demo/spans.jsonl, then the requests of a
# dd to its disk with their latencies, also in out/demo/disk.jsonl. Where this
# host can trace, natively; else in a VM whose virtio-net reaches the host. When
# something listens on 127.0.0.1:4317 (a Collector, Jaeger), the spans go there
# as well.
set -euo pipefail
cd "$(dirname "$0")/.."
out=out/demo
mkdir -p "$out"
rm -f "$out"/*

listening() { (exec 3<>/dev/tcp/127.0.0.1/4317) 2>/dev/null; }

if bin/otel-kprobe check >"$out/check.txt" 2>&1; then
	echo "This host can trace: tracing a ping to its own loopback address, and a write."
	endpoint=''
	if listening; then endpoint=127.0.0.1:4317; fi
	OUT=$out PROGRAM=bin/otel-kprobe TARGET=127.0.0.1 DISK= ENDPOINT=$endpoint test/demo/guest.sh
else
	echo "This host cannot trace ($(tail -n 1 "$out/check.txt")): starting a VM."
	endpoint=''
	if listening; then endpoint=10.0.2.2:4317; fi
	share=$(mktemp -d)
	trap 'rm -rf "$share"' EXIT
	cp bin/otel-kprobe test/demo/guest.sh "$share"
	test/vm/run.sh --kernel "${KERNEL:-6.12}" --share "$share" --out "$out" \
		--env "OUT=/out" --env "PROGRAM=/share/otel-kprobe" --env "TARGET=10.0.2.2" --env "DISK=/dev/scratch" \
		--env "ENDPOINT=$endpoint" --env "LANG=${LC_ALL:-${LANG:-C.UTF-8}}" \
		-- /bin/bash /share/guest.sh
fi

echo
echo "Spans kept in $out/spans.jsonl and $out/disk.jsonl: upload these files in Jaeger's UI to see them there."
if [[ -n $endpoint ]]; then
	echo "They were sent to 127.0.0.1:4317 as well."
else
	echo "Nothing listens on 127.0.0.1:4317: start a Collector or Jaeger there, and they are sent to it."
fi
