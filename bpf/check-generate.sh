#!/usr/bin/env bash
# Generates the BPF objects and their Go files anew, in a directory of its own,
# and compares them byte for byte with the committed ones. The result depends on
# the compiler's major version, so no other is accepted.
#
# usage: check-generate.sh
set -euo pipefail

clang_major=14 # Debian 12
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
	echo "check-generate: $*" >&2
	exit 1
}

command -v clang >/dev/null || fail "clang not found: the generated files need clang $clang_major (package clang-$clang_major)"
found=$(clang --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p' | head -n 1)
[[ $found == "$clang_major" ]] ||
	fail "clang is version $found, but the generated files were made with $clang_major: put clang-$clang_major first on PATH as clang"

# Inside the module, so that go generate finds it; ignored by Go for its name.
scratch=$(mktemp -d "$here/../_generate.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cp "$here"/*.go "$here"/*.c "$here"/*.h "$scratch/"
rm -f "$scratch"/*_test.go
(cd "$scratch" && go generate .)

status=0
for file in "$scratch"/*_bpfel.go "$scratch"/*_bpfel.o; do
	cmp -s "$file" "$here/$(basename "$file")" && continue
	echo "check-generate: $(basename "$file") differs from what its source gives" >&2
	status=1
done
[[ $status -eq 0 ]] || fail "run 'go generate ./bpf' and commit the result"
