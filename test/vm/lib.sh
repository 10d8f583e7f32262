# Shared by images.sh and run.sh: cache, mirrors, messages. Sourced, not run.

# mke2fs, modprobe and depmod are not on every user's path.
PATH=$PATH:/usr/sbin:/sbin

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm_cache=${OTEL_KPROBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-kprobe}/vm

# Kernel series under test, oldest first, and the Debian suites that carry each
# one: the first suite that answers is used. "security/…" is the security
# archive; a release that left support lives on there longest.
vm_kernels=(5.10 6.1 6.12 7.3)
declare -A vm_suites=(
	[5.10]="security/bullseye-security main/bullseye archive/bullseye"
	[6.1]="main/bookworm"
	[6.12]="main/trixie"
	[7.3]="main/trixie-backports"
)

vm_note() { echo "vm: $*" >&2; }

# Ends the program: status 125 means that the harness failed, not the guest's
# command. The sentence also goes to the file of --report, for callers that mix
# the guest's standard error with ours.
vm_fail() {
	echo "vm: $*" >&2
	[[ -z ${vm_report:-} ]] || echo "$*" >"$vm_report"
	exit 125
}

vm_need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || vm_fail "$tool not found: run test/vm/deps.sh"
	done
}

# Prints the base address of an archive (main, security, archive), taken from
# the apt set-up of this machine so that it works behind any mirror.
vm_site() {
	local main security
	main=$(vm_sites | awk '$2 !~ /-security$|\/updates$/ { print $1; exit }')
	[[ -n $main ]] || vm_fail "no Debian archive among this machine's apt sources: add one for bookworm or trixie"
	case $1 in
	main) echo "$main" ;;
	security)
		security=$(vm_sites | awk '$2 ~ /-security$|\/updates$/ { print $1; exit }')
		echo "${security:-${main%/}-security}"
		;;
	archive) echo "${main%/debian*}/debian-archive/debian" ;;
	esac
}

# Prints "site suite" of every Debian source of this machine, others left out.
vm_sites() {
	apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' |
		awk '$3 == "main" && $2 ~ /^(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable)([-\/]|$)/' |
		sort -u
}

# Runs an apt tool with its state in directory $1 and nothing of the machine's
# own lists, so that packages of other suites can be fetched without root.
vm_apt() {
	local state=$1 tool=$2
	shift 2
	"$tool" -q \
		-o Dir::State="$state" -o Dir::State::status="$state/status" \
		-o Dir::Cache="$state/cache" -o Dir::Etc::SourceList="$state/sources.list" \
		-o Dir::Etc::SourceParts="$state/none" -o Dir::Etc::PreferencesParts="$state/none" \
		-o Dir::Etc::Preferences="$state/none/preferences" -o APT::Architecture=amd64 \
		-o APT::Architectures::=amd64 -o APT::Sandbox::User="$(id -un)" \
		-o Acquire::Languages=none -o Acquire::Retries=3 \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

vm_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the cache directory of image $1 whose recipe is the text $2 plus the
# script that builds it, building it with the command "$3 …" first when absent.
# The builder gets an empty directory as its last argument; it appears under its
# final name only when complete. One process builds, the others wait.
vm_cached() {
	local name=$1 recipe=$2 key final
	shift 2
	key=$(printf '%s\n' "$recipe" | cat - "$vm_dir/images.sh" | sha256sum | cut -c1-12)
	final=$vm_cache/$name-$key
	if [[ ! -d $final ]]; then
		mkdir -p "$vm_cache"
		(
			flock 9
			[[ -d $final ]] && exit 0
			vm_build "$name" "$final" "$@"
		) 9>"$vm_cache/$name.lock" || exit $?
	fi
	touch "$final"
	echo "$final"
}

vm_build() {
	local name=$1 final=$2 work started=$SECONDS
	shift 2
	vm_note "building $name, once (into $vm_cache)"
	# Left behind by a build that was killed: this process has the lock now.
	work=$vm_cache/.build-$name
	rm -rf "$work"
	mkdir -p "$work/image"
	# A process of its own: bash ignores errexit in a condition.
	if "$@" "$work/image" >"$work/log" 2>&1; then
		mv -T "$work/image" "$final"
		rm -rf "$work"
		# Earlier recipes' images, unless another checkout still uses them.
		find "$vm_cache" -maxdepth 1 -name "$name-????????????" -mtime +7 -exec rm -rf {} +
		vm_note "built $name in $((SECONDS - started)) s"
		return
	fi
	tail -n 15 "$work/log" >&2
	mv -T "$work/log" "$vm_cache/$name.log"
	rm -rf "$work"
	vm_fail "cannot build $name: see the lines above and $vm_cache/$name.log"
}
