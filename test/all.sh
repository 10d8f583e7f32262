#!/usr/bin/env bash
# Everything that `make test` promises, cheapest first. Stops at the first
# failure, and says how long each part took.
set -euo pipefail
cd "$(dirname "$0")/.."

part() {
	local start=$SECONDS
	echo "=== $*"
	make --no-print-directory "$@"
	echo "=== $* took $((SECONDS - start)) s"
}

# Where there are none yet: downloads, and one processor's work. What fails here,
# test-kernels tries again, and tells.
make --no-print-directory vm-images >/dev/null 2>&1 &
trap 'kill %1 2>/dev/null || true' EXIT

part check-generate
part test-unit
part lint
part check-docs
part check-deploy
part test-kernels
part test-e2e
