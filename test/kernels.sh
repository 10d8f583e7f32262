#!/usr/bin/env bash
# Runs the kernel tests of bpf, internal/filter and internal/probe and the scenarios
# (test/scenario) on real kernels: one boot for each, and two more of 6.12, under
# lockdown and for the soak, some at a time. test/vm/run.sh boots again when a machine
# does not come up.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<USAGE
usage: kernels.sh [--suite NAME]… [--run RE] [KERNEL]…

  --suite NAME  bpf, filter, probe, scenario, lockdown or soak (default: all of them)
  --run RE      only the tests that match, as -test.run
  KERNEL        $(test/vm/images.sh list | tr '\n' ' ')(default: all of them)

It tests bin/otel-kprobe, or what OTEL_KPROBE_BIN names, on as many machines at a
time as processors and memory allow, or as OTEL_KPROBE_VMS says. Tests that two kernels
suffice for run on two (test/scenario/guest.sh has the lists); OTEL_KPROBE_ALL=1 runs every
test on every kernel, which takes about twice as long. OTEL_KPROBE_BULK=10m makes
TestBulk send for so long, 20m at most; OTEL_KPROBE_SOAK=30m is for TestSoak, and
OTEL_KPROBE_OUTAGE=10m for how long the receiver of TestFaultCollector is away.
USAGE
}

fail() {
	echo "kernels: $*" >&2
	exit 1
}

suites=() pattern='' kernels=()
while [[ $# -gt 0 ]]; do
	case $1 in
	--suite) suites+=("${2:?}") && shift 2 ;;
	--run) pattern=${2:?} && shift 2 ;;
	--help | -h) usage && exit 0 ;;
	-*) fail "unknown option $1: see kernels.sh --help" ;;
	*) kernels+=("$1") && shift ;;
	esac
done
[[ ${#suites[@]} -gt 0 ]] || suites=(bpf filter probe scenario lockdown soak)
[[ ${#kernels[@]} -gt 0 ]] || readarray -t kernels < <(test/vm/images.sh list)
binary=${OTEL_KPROBE_BIN:-bin/otel-kprobe}
[[ -x $binary ]] || fail "$binary is missing: run 'make build' first"

share=$(mktemp -d -t otel-kprobe-kernels.XXXXXX)
trap 'rm -rf "$share"' EXIT

# Builds the test binary of suite $1, static, as they run in a guest.
build() {
	case $1 in
	bpf) CGO_ENABLED=0 go test -c -tags vm -o "$share/bpf.test" ./bpf ;;
	probe) CGO_ENABLED=0 go test -c -tags vm -o "$share/probe.test" ./internal/probe ;;
	filter)
		# With cgo: the compiler of filters is libpcap.
		go test -c -tags vm,osusergo,netgo -ldflags '-linkmode external -extldflags -static' \
			-o "$share/filter.test" ./internal/filter
		;;
	scenario | lockdown | soak) CGO_ENABLED=0 go -C test test -c -tags vm -o "$share/scenario.test" ./scenario ;;
	*) fail "there is no suite $1: see kernels.sh --help" ;;
	esac
	case $1 in
	lockdown | soak) [[ -x $share/scenario.test ]] ;;
	*) [[ -x $share/$1.test ]] ;;
	esac || fail "suite $1 has no tests"
}

# Boots kernel $1 and runs the guest's script with the remaining arguments as
# run.sh's options up to --, then the script's; once more when the emulated disk
# has failed (status 75 of the script).
boot() {
	local kernel=$1 status attempt
	shift
	for attempt in first last; do
		status=0
		test/vm/run.sh --kernel "$kernel" --share "$share" --timeout 4200 \
			--env OTEL_KPROBE_BIN=/share/otel-kprobe --env "OTEL_KPROBE_RUN=$pattern" \
			--env "OTEL_KPROBE_ALL=${OTEL_KPROBE_ALL:-}" \
			--env "OTEL_KPROBE_BULK=${OTEL_KPROBE_BULK:-}" --env "OTEL_KPROBE_SOAK=${OTEL_KPROBE_SOAK:-}" \
			--env "OTEL_KPROBE_OUTAGE=${OTEL_KPROBE_OUTAGE:-}" "$@" || status=$?
		[[ $status -eq 75 && $attempt == first ]] || return "$status"
		echo "== kernel $kernel: the emulated disk failed, not the program: booting again"
	done
}

has() { [[ " ${suites[*]} " == *" $1 "* ]]; }

for suite in "${suites[@]}"; do build "$suite"; done
cp "$binary" "$share/otel-kprobe"
cp test/scenario/guest.sh "$share/guest.sh"

# Runs suites $2… on kernel $1 in one boot and says how long they took.
run_kernel() {
	local kernel=$1 begin=$SECONDS status=0
	shift
	echo "== kernel $kernel: $*"
	if [[ $* == lockdown ]]; then
		boot "$kernel" --append lockdown=confidentiality -- bash /share/guest.sh lockdown || status=$?
	else
		boot "$kernel" -- bash /share/guest.sh "$@" || status=$?
	fi
	echo "== kernel $kernel: $* took $((SECONDS - begin)) s"
	return "$status"
}

# Starts run_kernel with its arguments as soon as fewer than $machines run. Its
# output is kept apart, and shown as a whole when it has ended.
start() {
	local log=$share/log.${#started[@]}
	while [[ $(jobs -rp | wc -l) -ge $machines ]]; do wait -n || true; done
	started+=("$*")
	(
		status=0
		run_kernel "$@" >"$log" 2>&1 || status=$?
		flock "$share/show" cat "$log"
		echo "$status" >"$log.status"
	) &
}

machines=${OTEL_KPROBE_VMS:-$(test/parallel.sh)}
[[ $machines -ge 1 ]] || machines=1
started=()
in_one_boot=()
for suite in bpf filter probe scenario; do
	if has "$suite"; then in_one_boot+=("$suite"); fi
done
for kernel in "${kernels[@]}"; do
	if [[ ${#in_one_boot[@]} -gt 0 ]]; then start "$kernel" "${in_one_boot[@]}"; fi
done
for suite in soak lockdown; do
	if has "$suite" && [[ " ${kernels[*]} " == *" 6.12 "* ]]; then start 6.12 "$suite"; fi
done
wait

failed=()
for number in "${!started[@]}"; do
	log=$share/log.$number
	[[ $(cat "$log.status" 2>/dev/null) != 0 ]] || continue
	failed+=("${started[$number]}")
	# Again at the end, where it is looked for: another kernel's output may follow it.
	echo "== failures of ${started[$number]}"
	grep -B 25 -E '^ *--- FAIL|^panic:|^FAIL|^guest: failed' "$log" | tail -n 150 || true
done
[[ ${#failed[@]} -eq 0 ]] || fail "failed: $(printf '%s; ' "${failed[@]}")"
