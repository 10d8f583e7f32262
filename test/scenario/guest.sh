#!/usr/bin/env bash
# Runs in the guest: the test binaries of the suites that are named, all of them
# even when one fails. OTEL_KPROBE_RUN selects tests. Status 75: something failed,
# but the machine's disk did as well, so nothing can be told of the tests.
set -uo pipefail
cd /tmp

# Tests of what no kernel makes any difference to: kernels.sh runs them on one.
of_program='^Test(Soak|FaultClock|FaultCollector|FaultDiskFull)$'
# … and of what is the program's own for the most part: on the oldest and the newest.
of_ends='^Test(DyingCollector|Duration|FullDisk|Interrupt|Kill|KillWhileAttaching|LimitTraces|Only|OwnTraffic|RefusingCollector)$'
# … and of what the way of attaching makes a difference to: on 5.10, which attaches
# functions one by one, and on 6.12, which attaches them all at once.
of_backends='^Test(BlockSample|FaultChurn|FaultMachine|Guard|Sample)$'

# Prints which tests this kernel leaves to others.
of_others() {
	case $(uname -r) in
	5.10.*) echo "$of_program" ;;
	6.1.*) echo "$of_program|$of_ends|$of_backends" ;;
	6.12.*) echo "$of_program|$of_ends" ;;
	*) echo "$of_program|$of_backends" ;;
	esac
}

failed=()
for suite in "$@"; do
	echo "== suite $suite"
	begin=$SECONDS
	if [[ $suite == lockdown ]]; then
		OTEL_KPROBE_LOCKDOWN=confidentiality /share/scenario.test -test.v -test.timeout 5m -test.run '^TestLockdown$'
	elif [[ $suite == scenario ]]; then
		# What is asked for by its name is run on any kernel.
		/share/scenario.test -test.v -test.timeout=60m -test.run "$OTEL_KPROBE_RUN" \
			-test.skip "$([[ -n $OTEL_KPROBE_RUN ]] && echo '^$' || of_others)"
	elif [[ $suite == soak ]]; then
		/share/scenario.test -test.v -test.timeout=45m -test.run "${OTEL_KPROBE_RUN:-$of_program}"
	else # their other tests need no kernel of a certain version
		"/share/$suite.test" -test.v -test.timeout=60m -test.run "${OTEL_KPROBE_RUN:-Kernel}"
	fi || failed+=("$suite")
	echo "== suite $suite took $((SECONDS - begin)) s"
done
if [[ ${#failed[@]} -gt 0 ]]; then
	echo "guest: failed: ${failed[*]}" >&2
	# The NVMe device of QEMU 7.2 now and then reads no further command of a busy
	# queue, traced or not: once in some 60,000 requests at a depth of 8 while both
	# processors of the host were busy.
	if dmesg | grep -E 'nvme.* timeout, (aborting|reset)' >&2; then
		exit 75
	fi
	exit 1
fi
