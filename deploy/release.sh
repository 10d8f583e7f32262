#!/usr/bin/env bash
# Builds a release of the commit that is checked out, for amd64 alone: there are no
# kernel programs for another architecture.
#
#   release.sh [DIRECTORY]    default out/release; emptied first
#
#   otel-kprobe-linux-amd64            the static binary
#   otel-kprobe-VERSION-linux-amd64.tar.gz  with manual, completions, unit, manifests
#   otel-kprobe_VERSION-1_amd64.deb
#   otel-kprobe.cdx.json               what is in the binary, as CycloneDX
#   SHA256SUMS
#
# The same commit, on the same Debian with the same Go, gives the same bytes.
set -euo pipefail
umask 022
deploy=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname -- "$deploy")
out=$(realpath -m -- "${1:-$top/out/release}")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
stage=$work/stage

say() { echo "release: $*" >&2; }
die() { say "$*"; exit 1; }

# Go writes the version of the commit into the binary only where .git is a directory,
# and a file that was never committed has no place in a release: so it is built in a
# clone. Prints nothing; the binary is $work/source/bin/otel-kprobe.
build() {
	[[ -z $(git -C "$top" status --porcelain) ]] || say "what is not committed is not in it"
	git clone -q --shared -- "$top" "$work/source"
	git -C "$work/source" checkout -q --detach "$(git -C "$top" rev-parse HEAD)"
	env -u MAKEFLAGS -u MAKELEVEL GOFLAGS=-buildvcs=true GOOS=linux GOARCH=amd64 make -s -C "$work/source" build
}

# No name and no time in it.
compress() { gzip -9 -n; }

# Lays out what tarball and package have.
lay_out() {
	local source=$work/source page shell
	mkdir -p "$stage"/{completions,debian,docs,man}
	cp -- "$source"/{LICENSE,README.md} "$stage"
	cp -- "$source"/docs/*.md "$stage/docs"
	cp -- "$source"/deploy/{otel-kprobe.yaml,otel-kprobe.schema.json,service.yaml} "$stage"
	cp -r -- "$source"/deploy/{systemd,kubernetes} "$stage"
	cp -- "$source"/deploy/man/*.1 "$stage/man"
	install -m 0755 "$source/bin/otel-kprobe" "$stage/otel-kprobe"
	for shell in bash zsh fish; do
		"$stage/otel-kprobe" completion "$shell" >"$stage/completions/otel-kprobe.$shell"
	done
}

pack_tarball() {
	local name=otel-kprobe-$version-linux-amd64
	tar --create --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		--mode=u+rw,go+r-w --transform="s,^\.,$name," --exclude=./debian -C "$stage" . | compress >"$out/$name.tar.gz"
}

pack_deb() {
	local page
	cp -- "$work"/source/deploy/debian/* "$stage/debian"
	mkdir "$stage/man/gz"
	for page in "$stage"/man/*.1; do compress <"$page" >"$stage/man/gz/$(basename "$page").gz"; done
	compress >"$stage/debian/changelog.gz" <<-EOF
		otel-kprobe (${version#v}-1) unstable; urgency=medium

		  * See https://github.com/otel-kprobe/otel-kprobe/releases.

		 -- otel-kprobe authors <otel-kprobe@users.noreply.github.com>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
	EOF
	(cd -- "$stage" && VERSION=$version "$nfpm" package --config "$work/source/deploy/nfpm.yaml" --packager deb --target "$out" >&2)
}

# Prints a C library that is linked in, as a component. Go's build information, which
# the rest is made of, does not know these.
c_library() {
	local name=$1 package=$2 licence=$3 installed
	installed=$(dpkg-query -W -f '${Version}' "$package") || die "$package is not installed: run make deps"
	jq -n --arg name "$name" --arg version "$installed" --arg licence "$licence" \
		--arg purl "pkg:deb/debian/$package@$installed?arch=amd64" \
		'{type: "library", name: $name, version: $version, purl: $purl, "bom-ref": $purl, licenses: [{license: {id: $licence}}]}'
}

write_sbom() {
	# After the build all modules are in Go's cache, where their licences are found. Our
	# own and the standard library are not, which it warns of: theirs are added below.
	GOPROXY=off "$cyclonedx" bin -json -std -licenses -noserial -version "$version" -output "$work/go.json" "$stage/otel-kprobe" >&2
	{
		c_library libpcap libpcap0.8-dev BSD-3-Clause
		c_library glibc libc6-dev LGPL-2.1-or-later
	} | jq -s --slurpfile bom "$work/go.json" --arg time "$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)" \
		'. as $c | $bom[0] | .components += $c | .metadata.timestamp = $time |
			.metadata.component.licenses = [{license: {id: "Apache-2.0"}}] |
			(.components[] | select(.name == "std")).licenses = [{license: {id: "BSD-3-Clause"}}]' >"$out/otel-kprobe.cdx.json"
}

nfpm=$("$top/test/backends/build.sh" nfpm)
cyclonedx=$("$top/test/backends/build.sh" cyclonedx-gomod)
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
build
version=$("$work/source/bin/otel-kprobe" --version | awk '{ print $2 }')
[[ $version == v[0-9]* ]] || die "the binary says that it is version '$version': Go found none in git; see 'go help buildvcs'"
rm -rf -- "$out"
mkdir -p -- "$out"
lay_out
install -m 0755 "$stage/otel-kprobe" "$out/otel-kprobe-linux-amd64"
pack_tarball
pack_deb
write_sbom
(cd -- "$out" && sha256sum -- * >"$work/SHA256SUMS")
mv -- "$work/SHA256SUMS" "$out"
say "$version is in $out"
