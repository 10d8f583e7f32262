#!/usr/bin/env bash
# Boots one of the test kernels under QEMU's emulation (no KVM needed), runs a
# command in it as root, and ends with the command's exit status.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

usage() {
	cat <<USAGE
usage: run.sh [--kernel 6.12] [options] -- COMMAND [ARGUMENT…]
       run.sh [--kernel 6.12] [options] --shell

  --kernel SERIES  one of ${vm_kernels[*]} (default 6.12)
  --share DIR      DIR's files, read-only, at /share, where COMMAND starts
  --out DIR        whatever COMMAND leaves in /out comes back into DIR
  --env NAME=VALUE environment of COMMAND; may be repeated
  --smp N          processors (default 2)
  --mem MB         memory (default 2048)
  --scratch MB     size of the second NVMe disk, /dev/scratch (default 256)
  --timeout SEC    for boot and COMMAND together (default 600)
  --append TEXT    more kernel command line
  --icount         deterministic clock: one instruction takes 2 ns, one processor;
                   waits for disks still take the host's time, so warm up first
  --peers          a root with pwru, bpftrace and libbpf-tools as well
  --docker         a root with dockerd and Compose instead of the usual tools
  --console FILE   keep the kernel's console output
  --report FILE    if the VM itself fails, the one-sentence reason

The host's loopback is 10.0.2.2 in the guest. Status 125: the VM failed (kernel
panic, no boot, timeout), with one sentence on standard error.
USAGE
}

kernel=6.12 share='' out='' smp=2 mem=2048 scratch=256 timeout=600 append='' icount='' variant=''
console='' vm_report='' shell='' environment=()

parse() {
	while [[ $# -gt 0 ]]; do
		case $1 in
		--icount | --peers | --docker | --shell | --help | -h | --) ;;
		--*) [[ $# -ge 2 ]] || vm_fail "option $1 needs a value: see run.sh --help" ;;
		esac
		case $1 in
		--kernel) kernel=$2 ;;
		--share) share=$2 ;;
		--out) out=$2 ;;
		--env) environment+=("$2") ;;
		--smp) smp=$2 ;;
		--mem) mem=$2 ;;
		--scratch) scratch=$2 ;;
		--timeout) timeout=$2 ;;
		--append) append+=" $2" ;;
		--console) console=$2 ;;
		--report) vm_report=$2 ;;
		--icount) icount=yes ;;
		--peers | --docker) variant=$1 ;;
		--shell) shell=yes ;;
		--help | -h) usage && exit 0 ;;
		--)
			shift
			break
			;;
		*) vm_fail "unknown option $1: see run.sh --help" ;;
		esac
		case $1 in
		--icount | --peers | --docker | --shell) shift ;;
		*) shift 2 ;;
		esac
	done
	command=("$@")
}

# --- what the guest gets -----------------------------------------------------

# Makes the initrd of this run: the kernel's own, then a second archive with
# the guest's scripts and the command.
make_initrd() {
	local dir=$work/initrd.d
	mkdir -p "$dir/vm"
	cp "$vm_dir/guest/init" "$dir/init"
	cp "$vm_dir/guest/main" "$dir/vm/main"
	{
		[[ ${#environment[@]} -eq 0 ]] || printf 'export %q\n' "${environment[@]}"
		[[ -n $shell ]] || printf 'exec%s\n' "$(printf ' %q' "${command[@]}")"
	} >"$dir/vm/command"
	[[ -z $share ]] || : >"$dir/vm/share"
	[[ -z $out ]] || : >"$dir/vm/out"
	[[ -z $icount ]] || : >"$dir/vm/icount"
	[[ -z $shell ]] || terminal_size >"$dir/vm/shell"
	{
		cat "$image/initrd"
		(cd "$dir" && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null)
	} >"$work/initrd"
}

# Prints the terminal's size as stty takes it: a serial line does not carry it.
terminal_size() {
	local rows columns
	read -r rows columns < <(stty size 2>/dev/null) || true
	[[ ${rows:-0} -gt 0 ]] || { rows=24 columns=80; }
	echo "rows $rows cols $columns"
}

make_disks() {
	local size
	truncate -s "${scratch}M" "$work/scratch.img"
	# Takes a tar of /out, which is memory in the guest; sparse.
	truncate -s "$((mem + 64))M" "$work/out.img" || vm_fail "--mem $mem is not a number of MiB"
	[[ -n $share ]] || return 0
	size=$(du -s --apparent-size --block-size=1M "$share" | cut -f1)
	mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$share" "$work/share.img" \
		"$((size * 5 / 4 + 16))M" >/dev/null 2>"$work/mke2fs.log" ||
		vm_fail "cannot make a disk of --share $share: $(tail -n 1 "$work/mke2fs.log")"
}

# Sets the array qemu: the machine's command line.
make_machine() {
	# One thread runs all processors in turn: with a thread each, QEMU 7.2 now and
	# then runs code that another processor has just patched, and the kernel,
	# which patches itself a lot while probes come and go, dies of an int3.
	local accel=tcg,thread=single
	qemu=(qemu-system-x86_64 -M q35 -m "$mem" -nodefaults -display none -no-reboot)
	if [[ -n $icount ]]; then
		smp=1
		qemu+=(-icount shift=1,sleep=off)
	fi
	# cx16 off: QEMU 7.2 emulates cmpxchg16b with wrong flags, and SLUB faults.
	qemu+=(-accel "$accel" -smp "$smp" -cpu max,-cx16
		-kernel "$image/vmlinuz" -initrd "$work/initrd"
		-append "console=ttyS0 quiet panic=-1 oops=panic tsc=reliable net.ifnames=0$append")
	add_disk root "$root/root.ext4" on
	add_disk modules "$image/modules.ext4" on
	[[ -z $share ]] || add_disk share "$work/share.img" on
	add_disk scratch "$work/scratch.img" off
	add_disk out "$work/out.img" off
	qemu+=(-device nvme,id=sys,serial=sys,max_ioqpairs=2
		-device nvme-ns,bus=sys,nsid=1,drive=root
		-device nvme-ns,bus=sys,nsid=2,drive=modules)
	[[ -z $share ]] || qemu+=(-device nvme-ns,bus=sys,nsid=3,drive=share)
	[[ -z $out ]] || qemu+=(-device nvme-ns,bus=sys,nsid=4,drive=out)
	qemu+=(-device nvme,serial=scratch,drive=scratch,max_ioqpairs=2
		-netdev user,id=net -device virtio-net-pci,netdev=net,romfile=
		-device virtio-rng-pci -device virtio-serial-pci,ioeventfd=off)
	if [[ -n $shell ]]; then
		qemu+=(-serial mon:stdio)
		return
	fi
	qemu+=(-serial "file:$work/console")
	add_port stdout "$work/stdout"
	add_port stderr "$work/stderr"
	add_port control "$work/control"
}

add_disk() {
	qemu+=(-blockdev "driver=raw,node-name=$1,read-only=$3,file.driver=file,file.filename=$2,file.locking=off")
}

# Adds a virtio-serial port into a file. A write in the guest returns when its
# bytes are in the file: ioeventfd=off makes QEMU handle it in place, and a file,
# unlike a pipe, never makes it wait. With both otherwise, the last bytes before
# power-off get lost.
add_port() {
	qemu+=(-chardev "file,id=$1,path=$2" -device "virtserialport,chardev=$1,name=$1")
}

# --- running -----------------------------------------------------------------

# Copies the guest's output to ours as it comes, until the process $1 ends.
start_readers() {
	tail -c +1 -f -s 0.1 --pid="$1" "$work/stdout" 2>/dev/null &
	readers=($!)
	tail -c +1 -f -s 0.1 --pid="$1" "$work/stderr" >&2 2>/dev/null &
	readers+=($!)
}

# A boot that has not come to the command after this long is given up.
boot_timeout=120
boot_tries=3

# Boots until the command has started, boot_tries times at most: QEMU 7.2's
# emulation now and then trips over a kernel that patches its own code while
# another processor runs it. Once the command has started there is one try.
run_command() {
	local try status state
	for ((try = 1; try <= boot_tries; try++)); do
		boot
		[[ -f $work/control ]] || vm_fail "$work was removed while the machine ran: run it again"
		state=$(tail -n 1 "$work/control")
		[[ -z $state && $try -lt boot_tries && ! -s $work/qemu.log ]] || break
		echo "vm: kernel $kernel did not come up, trying again" >&2
	done
	[[ $state == exit\ * ]] || fail_run "$status" "$state"
	[[ -z $out ]] || fetch_files
	exit "${state#exit }"
}

# Runs the machine until it powers off; sets status to QEMU's.
boot() {
	status=0
	: | tee "$work/control" "$work/console" "$work/stdout" >"$work/stderr"
	# QEMU must not outlive this script, however that ends.
	setpriv --pdeathsig TERM timeout --signal=KILL "$timeout" \
		setpriv --pdeathsig KILL "${qemu[@]}" </dev/null 2>"$work/qemu.log" &
	qemu_pid=$!
	start_readers "$qemu_pid"
	watch_boot "$qemu_pid" &
	readers+=($!)
	wait "$qemu_pid" 2>/dev/null || status=$?
	qemu_pid=''
	wait "${readers[@]}" || true
}

# Ends the machine $1 when its command has not started within boot_timeout.
watch_boot() {
	local i
	for ((i = 0; i < boot_timeout; i++)); do
		[[ ! -s $work/control ]] && kill -0 "$1" 2>/dev/null || return 0
		sleep 1
	done
	kill -KILL "$1" 2>/dev/null || true
}

fetch_files() {
	mkdir -p "$out"
	tar --no-same-owner -C "$out" -xf "$work/out.img" 2>"$work/tar.log" ||
		vm_fail "cannot unpack the guest's /out into $out: $(head -n 1 "$work/tar.log")"
}

# Says in one sentence why the guest gave no exit status: $1 is QEMU's status,
# $2 the last word of the guest's main script.
fail_run() {
	local status=$1 phase="before it could start the command" reason
	[[ -z $2 ]] || phase="while the command ran"
	reason=$(tr -d '\r' <"$work/console" 2>/dev/null |
		grep -aoE -m 1 'Kernel panic - not syncing: .*|vm: .*' || true)
	if [[ $reason == Kernel\ panic* ]]; then
		grep -aE -m 1 -A 12 'BUG:|Oops|general protection' "$work/console" | head -n 12 >&2 || true
		vm_fail "kernel $kernel panicked $phase: ${reason#*not syncing: }"
	elif [[ -n $reason ]]; then
		vm_fail "kernel $kernel gave up $phase: ${reason#vm: }"
	elif [[ $status -eq 137 || $status -eq 124 ]]; then
		vm_fail "kernel $kernel was stopped after $timeout s $phase: raise --timeout, or keep --console and look"
	elif [[ -s $work/qemu.log ]]; then
		vm_fail "QEMU ended with status $status: $(head -n 1 "$work/qemu.log")"
	fi
	vm_fail "kernel $kernel ended $phase, without a panic: keep --console and look"
}

cleanup() {
	local status=$?
	trap - EXIT INT TERM
	[[ -z ${qemu_pid:-} ]] || kill -TERM "$qemu_pid" 2>/dev/null || true
	[[ -z $console || ! -f $work/console ]] || cp "$work/console" "$console"
	rm -rf "$work"
	exit "$status"
}

parse "$@"
[[ -n $shell || ${#command[@]} -gt 0 ]] || vm_fail "no command given: see run.sh --help"
[[ -n ${vm_suites[$kernel]:-} ]] || vm_fail "unknown kernel \"$kernel\": choose one of ${vm_kernels[*]}"
[[ -z $share || -d $share ]] || vm_fail "--share $share is not a directory"
vm_need qemu-system-x86_64 busybox mke2fs setpriv
image=$("$vm_dir/images.sh" kernel "$kernel")
root=$("$vm_dir/images.sh" root $variant)
work=$(mktemp -d -t otel-kprobe-vm.XXXXXX)
qemu_pid=''
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
make_initrd
make_disks
make_machine
if [[ -n $shell ]]; then
	"${qemu[@]}"
else
	run_command
fi
