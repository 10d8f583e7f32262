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

part check-generate
part test-unit
part lint
part check-docs
part check-deploy
part test-kernels
part test-e2e
