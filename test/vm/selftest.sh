#!/usr/bin/env bash
# Checks the VM harness itself: boots the given kernels (default: all) and
# proves output, exit status, files both ways, network and failure reporting.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
run=$here/run.sh
work=$(mktemp -d -t vm-selftest.XXXXXX)
server=''
trap '[[ -z $server ]] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
failures=0

# Reports check $1: passes when $2 equals $3.
check() {
	if [[ $2 == "$3" ]]; then
		echo "ok   $1"
	else
		echo "FAIL $1: got \"$2\", want \"$3\""
		failures=$((failures + 1))
	fi
}

# What runs in the guest; its answers go to /out/report as "name value".
cat >"$work/guest.sh" <<'GUEST'
{
	echo "uname $(uname -r)"
	echo "share $(cat /share/input | md5sum | cut -c1-32)"
	echo "environment $GREETING"
	echo "network $(curl -s --max-time 20 "http://10.0.2.2:$PORT/")"
	echo "loopback $(ping -q -c 1 -W 5 127.0.0.1 >/dev/null && echo up)"
	echo "tracing $(ls /sys/kernel/tracing/available_filter_functions 2>/dev/null)"
	echo "debugfs $(ls -d /sys/kernel/debug/tracing)"
	echo "bpffs $(stat -f -c %T /sys/fs/bpf)"
	echo "btf $(ls /sys/kernel/btf/vmlinux)"
	echo "scratch $(mke2fs -q /dev/scratch && echo writable)"
	echo "apparmor $(cat /sys/module/apparmor/parameters/enabled)"
	modprobe -a veth bridge vxlan geneve wireguard ipip ip_gre nf_tables nft_nat nf_conntrack \
		sch_netem cls_bpf dm_mod null_blk loop zram && echo "modules loaded"
	ip link add veth1 type veth peer name veth2 && echo "veth created"
	echo "config $(grep -c '^CONFIG_KPROBES=y' "/boot/config-$(uname -r)")"
} >/out/report
head -c 20000000 /dev/urandom | tee /out/blob | md5sum | cut -c1-32 >/out/blob.md5
seq 1 200000
echo to standard error >/dev/stderr
exit 42
GUEST

# Answers every connection with "hello from the host"; writes its port to $1.
serve() {
	exec perl -MIO::Socket::INET -e '
		$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5) or die "listen: $!";
		open F, ">", "$ARGV[0].new"; print F $s->sockport; close F; rename "$ARGV[0].new", $ARGV[0];
		while ($c = $s->accept) { while (<$c>) { last if /^\r?\n/ } print $c "HTTP/1.0 200 OK\r\n\r\nhello from the host\n"; close $c }
	' "$1"
}

answer() { sed -n "s/^$1 //p" "$work/out/report"; }

check_kernel() {
	local series=$1 status=0 started=$SECONDS name
	rm -rf "$work/out"
	"$run" --kernel "$series" --share "$work/share" --out "$work/out" --timeout 300 \
		--env "GREETING=it's \$5" --env "PORT=$(<"$work/port")" \
		-- bash guest.sh >"$work/stdout" 2>"$work/stderr" || status=$?
	check "$series: exit status" "$status" 42
	check "$series: kernel" "$([[ $(answer uname) == "$series".* ]] && echo "$series")" "$series"
	check "$series: standard output" "$(md5sum <"$work/stdout")" "$(seq 1 200000 | md5sum)"
	check "$series: standard error" "$(tail -n 1 "$work/stderr")" "to standard error"
	check "$series: file in" "$(answer share)" "$(md5sum <"$work/share/input" | cut -c1-32)"
	check "$series: file out" "$(md5sum <"$work/out/blob" | cut -c1-32)" "$(<"$work/out/blob.md5")"
	check "$series: environment" "$(answer environment)" "it's \$5"
	check "$series: network" "$(answer network)" "hello from the host"
	check "$series: loopback" "$(answer loopback)" up
	check "$series: tracefs" "$(answer tracing)" /sys/kernel/tracing/available_filter_functions
	check "$series: debugfs" "$(answer debugfs)" /sys/kernel/debug/tracing
	check "$series: bpffs" "$(answer bpffs)" bpf_fs
	check "$series: BTF" "$(answer btf)" /sys/kernel/btf/vmlinux
	check "$series: scratch disk" "$(answer scratch)" writable
	check "$series: AppArmor" "$(answer apparmor)" Y
	check "$series: modules" "$(answer modules)" loaded
	check "$series: veth" "$(answer veth)" created
	check "$series: kernel configuration" "$(answer config)" 1
	echo "     $series took $((SECONDS - started)) s"
}

# Runs the VM with the arguments after $3 and expects status 125 and, as the
# report, a sentence that matches $2.
check_failure() {
	local name=$1 pattern=$2 status=0
	shift 2
	rm -f "$work/reason"
	"$run" --report "$work/reason" "$@" >/dev/null 2>&1 || status=$?
	check "$name: status" "$status" 125
	check "$name: sentence" "$(grep -coE "$pattern" "$work/reason")" 1
}

check_failures() {
	check_failure "panic" "6.12 panicked while the command ran: sysrq" -- sh -c 'echo c >/proc/sysrq-trigger'
	check_failure "timeout" "stopped after 15 s while the command ran" --timeout 15 -- sleep 1000
	check_failure "boot timeout" "stopped after 1 s before it could start" --timeout 1 -- true
	check_failure "power off" "ended while the command ran, without a panic" -- /run/vm/busybox poweroff -f
	check_failure "unknown kernel" "choose one of" --kernel 2.6 -- true
	local status=0
	"$run" --report "$work/reason2" -- sh -c 'exit 125' || status=$?
	check "command's own 125: status" "$status" 125
	check "command's own 125: no report" "$(ls "$work/reason2" 2>/dev/null)" ""
}

# The same work takes the same guest time, whatever the host does. The first
# round warms up: waiting for the disk takes the host's time.
check_icount() {
	local first second round='(for ((i = 0; i < 50000; i++)); do :; done)'
	first=$("$run" --icount -- bash -c "TIMEFORMAT=%R; $round; time $round" 2>&1)
	second=$("$run" --icount -- bash -c "TIMEFORMAT=%R; $round; time $round" 2>&1)
	check "icount: $first s and $second s agree within 1 %" \
		"$(awk -v a="$first" -v b="$second" 'BEGIN { d = a - b; if (d < 0) d = -d; print (a > 0 && d <= a / 100) ? "yes" : "no" }')" yes
}

mkdir "$work/share"
mv "$work/guest.sh" "$work/share/"
head -c 3000000 /dev/urandom >"$work/share/input"
serve "$work/port" &
server=$!
for ((i = 0; i < 100; i++)); do [[ -s $work/port ]] && break; sleep 0.05; done

mapfile -t kernels < <("$here/images.sh" list)
[[ $# -eq 0 ]] || kernels=("$@")
for series in "${kernels[@]}"; do check_kernel "$series"; done
check_failures
check_icount
[[ $failures -eq 0 ]] || { echo "$failures checks failed" >&2; exit 1; }
echo "all checks passed"
