#!/usr/bin/env bash
# Installs the Debian packages that building otel-kprobe and booting its test
# kernels need. Only missing packages are installed, so a second run is free.
# Runs as root, or through sudo.
# usage: deps.sh [PACKAGE…]    installs these as well
set -euo pipefail

packages=(
	# BPF programs and the Go test suite (race detector, libpcap's compiler).
	ca-certificates clang gcc git jq libbpf-dev libc6-dev libpcap-dev llvm make
	# What reads the unit of deploy/ as it will be read.
	systemd
	# Virtual machines: emulator, guest root file system, kernels.
	busybox-static debian-archive-keyring e2fsprogs fakeroot kmod
	mmdebstrap uidmap qemu-system-x86 util-linux xz-utils zstd
	"$@"
)

fail() {
	echo "deps: $*" >&2
	exit 1
}

command -v apt-get >/dev/null ||
	fail "apt-get not found: the test harness needs Debian 12 or newer; install the equivalents of: ${packages[*]}"

# Prints the packages of the list that are not fully installed.
missing() {
	local package
	for package in "${packages[@]}"; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
	done
}

mapfile -t wanted < <(missing)
[[ ${#wanted[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
	command -v sudo >/dev/null || fail "packages missing (${wanted[*]}): run this as root, or install sudo"
	as_root=(sudo)
fi

# Another apt may be at work: wait for its lock rather than fail.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=900)

install() { "${apt[@]}" install --no-install-recommends "${wanted[@]}"; }

# A fresh machine has no package lists: fetch them only when they are needed.
install || { "${apt[@]}" update && install; } ||
	fail "cannot install ${wanted[*]}: see apt's message above; check the network and the apt sources"
