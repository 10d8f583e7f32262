#!/usr/bin/env bash
# Builds and caches what a test VM boots from, and prints the cache directory:
#   images.sh kernel SERIES    vmlinuz, config, modules.ext4, initrd
#   images.sh root [VARIANT]   root.ext4; --peers adds pwru, bpftrace, bcc tools;
#                              --docker has dockerd with Compose and little else
#   images.sh all              what the tests boot: all kernels, all roots but --peers
#   images.sh list             nothing built: the kernel series, oldest first
# A cache directory's name ends in a hash of its recipe (this file, package
# lists), so a change rebuilds it; old ones go
# once they have not been used for a week.
set -euo pipefail
shopt -s nullglob
. "$(dirname "$0")/lib.sh"

root_packages=(
	ca-certificates curl e2fsprogs ethtool fio iperf3 iproute2 iptables iputils-ping kmod
	nftables nginx procps tcpdump wireguard-tools dmsetup blktrace mdadm
)
peer_packages=(bpftrace libbpf-tools pwru)
# A root of its own: dockerd and its clients are as large as all of the above.
docker_packages=(
	apparmor busybox-static ca-certificates curl docker-buildx docker-cli docker-compose
	docker.io e2fsprogs iproute2 iptables kmod procps
)

# Modules that the initramfs loads before it mounts the root;
# those that a kernel has built in are skipped.
early_modules=(virtio_pci virtio_console virtio_net overlay)

# --- kernels -----------------------------------------------------------------

# Points the apt state in $1 at suite $2 ("main/trixie") and fetches its lists.
use_suite() {
	local state=$1 site
	site=$(vm_site "${2%%/*}")
	rm -rf "$state"
	mkdir -p "$state"/{lists/partial,cache/archives/partial,none}
	: >"$state/status"
	echo "deb [arch=amd64 signed-by=$vm_keyring] $site ${2#*/} main" >"$state/sources.list"
	vm_apt "$state" apt-get update --error-on=any
}

# Prints "package version" of what has to be unpacked for the suite's current
# cloud kernel: the meta package names the image; since 7.x the image in turn
# only names the packages with the binary, the modules and the base files.
kernel_packages() {
	local state=$1 image version
	read -r image version < <(vm_apt "$state" apt-cache show linux-image-cloud-amd64 |
		depends_on '^linux-image-[0-9].*-cloud-amd64$') || return 1
	echo "$image $version"
	vm_apt "$state" apt-cache show "$image=$version" |
		depends_on '^linux-(binary|modules|base)-[0-9].*-cloud-amd64$'
}

# Reads a package's control record and prints "name version" of the exactly
# versioned dependencies whose name matches the regular expression $1.
depends_on() {
	sed -n 's/^Depends: //p' | tr ',' '\n' |
		sed -nE 's/^ *([^ ]+) \(= ([^)]+)\).*/\1 \2/p' | awk -v re="$1" '$1 ~ re'
}

fetch_kernel() {
	local series=$1 dir=$2 suite name version
	for suite in ${vm_suites[$series]}; do
		use_suite "$dir/apt" "$suite" || continue
		kernel_packages "$dir/apt" >"$dir/packages" && [[ -s $dir/packages ]] || continue
		cat "$dir/packages"
		mkdir -p "$dir/debs"
		while read -r name version; do
			(cd "$dir/debs" && vm_apt "$dir/apt" apt-get download "$name=$version") || continue 2
		done <"$dir/packages"
		return 0
	done
	echo "no cloud kernel $series found in: ${vm_suites[$series]}" >&2
	return 1
}

build_kernel() {
	local series=$1 out=$2 work=$2.work deb version tree
	mkdir "$work"
	fetch_kernel "$series" "$work"
	for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/tree"; done
	tree=$work/tree
	# Merged-/usr packages ship /usr/lib/modules; the layout here is /lib.
	if [[ -d $tree/usr/lib/modules ]]; then mkdir -p "$tree/lib" && mv "$tree/usr/lib/modules" "$tree/lib/"; fi
	version=$(basename "$tree"/lib/modules/*)
	[[ $version == "$series".* ]] || { echo "suite carries $version, wanted $series" >&2; return 1; }
	echo "$version" >"$out/version"
	# In /boot, since 7.x beside the modules.
	mv "$tree/boot/vmlinuz-$version" "$out/vmlinuz" 2>/dev/null || mv "$tree/lib/modules/$version/vmlinuz" "$out/vmlinuz"
	mv "$tree/boot/config-$version" "$out/config" 2>/dev/null || mv "$tree/lib/modules/$version/config" "$out/config"
	pack_modules "$tree" "$version" "$out"
	pack_initrd "$tree" "$version" "$out"
	rm -rf "$work"
}

# Uncompresses the modules, so that any modprobe and any kernel can load them,
# and makes the read-only disk that a guest mounts at /lib/modules.
pack_modules() {
	local tree=$1 version=$2 out=$3
	find "$tree/lib/modules" -name '*.ko.xz' -print0 | xargs -0r -P "$(nproc)" -n 64 xz -d
	find "$tree/lib/modules" -name '*.ko.zst' -print0 | xargs -0r -P "$(nproc)" -n 64 zstd -q -d --rm
	rm -f "$tree/lib/modules/$version"/{build,source}
	depmod -b "$tree" "$version"
	cp "$out/config" "$tree/lib/modules/$version/config"
	pack_ext4 "$tree/lib/modules" "$out/modules.ext4"
}

# Makes the read-only ext4 image $2 of directory $1.
pack_ext4() {
	local size
	size=$(du -s --apparent-size --block-size=1M "$1" | cut -f1)
	mke2fs -q -t ext4 -O ^has_journal -m 0 -L "$(basename "$2" .ext4)" -E root_owner=0:0 \
		-d "$1" "$2" "$((size * 5 / 4 + 32))M"
}

# Makes the initramfs: busybox, the early modules and the list to load them by.
pack_initrd() {
	local tree=$1 version=$2 out=$3 dir=$out/initrd.d module path
	mkdir -p "$dir"/{bin,modules,dev,proc,sys,mnt}
	cp "$(command -v busybox)" "$dir/bin/busybox"
	for module in "${early_modules[@]}"; do
		modprobe -d "$tree" -S "$version" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$out/early"
	: >"$dir/modules/list"
	while read -r path; do
		cp "$path" "$dir/modules/"
		basename "$path" >>"$dir/modules/list"
	done <"$out/early"
	(cd "$dir" && find . | busybox cpio -o -H newc -R 0:0) >"$out/initrd"
	rm -rf "$dir" "$out/early"
}

# --- root file system --------------------------------------------------------

build_root() {
	local out=${*: -1} site packages=("${root_packages[@]}") mode=root
	case $1 in
	--peers) packages+=("${peer_packages[@]}") ;;
	--docker) packages=("${docker_packages[@]}") ;;
	esac
	[[ $(id -u) -eq 0 ]] || mode=unshare
	site=$(vm_site main)
	mmdebstrap --mode="$mode" --variant=minbase --architectures=amd64 \
		--include="$(IFS=,; echo "${packages[*]}")" \
		--aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/boot/*' \
		--customize-hook='mkdir -p "$1/share" "$1/out" "$1/lib/modules" && rm -f "$1/etc/resolv.conf"' \
		trixie "$out.tar" "deb [signed-by=$vm_keyring] $site trixie main"
	# Without root, fakeroot remembers the owners from unpacking to packing.
	if [[ $mode == root ]]; then
		pack_root "$out.tar" "$out.tree" "$out/root.ext4"
	else
		fakeroot -- "$self" pack-root "$out.tar" "$out.tree" "$out/root.ext4"
	fi
	rm -f "$out.tar"
}

# Turns the tar of a root into an image, by way of a directory.
pack_root() {
	local tar=$1 tree=$2 image=$3
	mkdir "$tree"
	tar --numeric-owner --exclude='./dev/*' -xpf "$tar" -C "$tree"
	pack_ext4 "$tree" "$image"
	rm -rf "$tree"
}

# --- commands ----------------------------------------------------------------

self=$vm_dir/images.sh
vm_need apt-get busybox depmod dpkg-deb flock mke2fs mmdebstrap modprobe sha256sum xz zstd

case ${1:-} in
kernel)
	[[ -n ${vm_suites[${2:-}]:-} ]] || vm_fail "unknown kernel \"${2:-}\": choose one of ${vm_kernels[*]}"
	vm_cached "kernel-$2" "${vm_suites[$2]}" "$self" build-kernel "$2"
	;;
root)
	case ${2:-} in '' | --peers | --docker) ;; *) vm_fail "unknown root \"$2\": choose --peers or --docker" ;; esac
	vm_cached "root${2:+-${2#--}}" "${root_packages[*]} ${peer_packages[*]}" "$self" build-root "${2:-}"
	;;
all)
	for series in "${vm_kernels[@]}"; do "$self" kernel "$series"; done
	"$self" root
	"$self" root --docker
	;;
list) printf '%s\n' "${vm_kernels[@]}" ;;
build-kernel) build_kernel "$2" "$3" ;;
build-root) build_root "$2" "$3" ;;
pack-root) pack_root "$2" "$3" "$4" ;;
*) vm_fail "usage: images.sh kernel SERIES | root [--peers | --docker] | all | list" ;;
esac
