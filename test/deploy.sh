#!/usr/bin/env bash
# Holds deploy/ to the program: the unit, the manifests and the configurations, and a
# release, which is built twice, since the same commit has to give the same bytes.
# usage: deploy.sh [BINARY]    default bin/otel-kprobe
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath -- "${1:-bin/otel-kprobe}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

deploy/release.sh "$work/first"
deploy/release.sh "$work/second"
diff "$work"/{first,second}/SHA256SUMS >&2 || { echo "deploy: two releases of one commit differ" >&2; exit 1; }
OTEL_KPROBE_BIN=$binary OTEL_KPROBE_RELEASE=$work/first go -C test test -count=1 ./deploy
echo "deploy: unit, manifests and release are as they should be"
