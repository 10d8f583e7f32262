#!/usr/bin/env bash
# Builds the back-ends of the end-to-end tests, the linter and what packs a release,
# from Go modules alone, once, and prints the path of each binary on standard output.
#
#   build.sh collector|jaeger|jaeger2|jaeger-ui|golangci-lint|nfpm|cyclonedx-gomod|all
#
# jaeger-ui is a directory, the page that the Jaeger of a Go module lacks; only
# pictures need it, so "all" does not have it.
#
# Binaries live in ${OTEL_KPROBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-kprobe}/bin,
# outside the work tree, because each takes minutes to build. Their names hold
# everything that decides their content, so a new version is a new file and a
# binary that is there is never stale. Progress goes to standard error.
#
# OTEL_KPROBE_BUILD_JOBS is how many packages compile at a time. One keeps the build
# below 2 GiB; the default is what test/parallel.sh says.
set -euo pipefail

readonly COLLECTOR_VERSION=0.159.0
readonly JAEGER_VERSION=1.62.0
# The page of Jaeger 1.68 as `docker buildx history trace` ships it, in a module
# without versions: https://github.com/tonistiigi/jaeger-ui-rest
readonly JAEGER_UI_VERSION=0.0.0-20250408171107-3dd17559e117
# Jaeger 2.13.0: one commit had both tags, and only those of version 1 are versions of the
# module (https://github.com/jaegertracing/jaeger/releases/tag/v2.13.0). It was the last.
readonly JAEGER2_VERSION=1.76.0
readonly GOLANGCI_LINT_VERSION=2.15.0
readonly NFPM_VERSION=2.43.4
readonly CYCLONEDX_GOMOD_VERSION=1.10.0

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here
bin=$(realpath -m -- "${OTEL_KPROBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-kprobe}")/bin
readonly bin
work=

say() { printf 'build.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

remove_work() {
  [[ -z $work ]] || rm -rf -- "$work"
  work=
}

# path_of TOOL prints where TOOL's binary belongs.
path_of() {
  local recipe
  case $1 in
    collector)
      recipe=$(sha256sum <"$here/collector-builder.yaml")
      echo "$bin/otelcol-$COLLECTOR_VERSION-${recipe:0:12}" ;;
    jaeger) echo "$bin/jaeger-all-in-one-$JAEGER_VERSION" ;;
    jaeger-ui) echo "$bin/jaeger-ui-$JAEGER_UI_VERSION" ;;
    jaeger2)
      recipe=$({ echo "$JAEGER2_WITHOUT" && cat "$here"/no-elasticsearch/{go.mod,*.go,*/*.go}; } | sha256sum)
      echo "$bin/jaeger-$JAEGER2_VERSION-${recipe:0:12}" ;;
    # A linter built by an older Go refuses modules that ask for a newer one.
    golangci-lint) echo "$bin/golangci-lint-$GOLANGCI_LINT_VERSION-$(go env GOVERSION)" ;;
    nfpm) echo "$bin/nfpm-$NFPM_VERSION" ;;
    cyclonedx-gomod) echo "$bin/cyclonedx-gomod-$CYCLONEDX_GOMOD_VERSION" ;;
    *) die "unknown tool '$1': give collector, jaeger, jaeger2, jaeger-ui, golangci-lint, nfpm, cyclonedx-gomod or all" ;;
  esac
}

build_collector() {
  grep -q "^  version: $COLLECTOR_VERSION\$" "$here/collector-builder.yaml" ||
    die "collector-builder.yaml is not for version $COLLECTOR_VERSION: set dist.version"
  go install "go.opentelemetry.io/collector/cmd/builder@v$COLLECTOR_VERSION"
  # The builder takes its output directory from its configuration only.
  sed "s|^dist:\$|&\n  output_path: $work/dist|" "$here/collector-builder.yaml" >"$work/builder.yaml"
  "$work/gobin/builder" --config "$work/builder.yaml"
  mv -- "$work/dist/otelcol" "$work/result"
}

# download MODULE@VERSION prints the directory with the module's files.
download() {
  local dir
  dir=$(go mod download -json "$1" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
  [[ -d $dir ]] || die "go mod download gave no directory for $1: check GOPROXY"
  echo "$dir"
}

# copy_of_jaeger VERSION puts a writable copy of that version's module into $work/jaeger.
# `go install module@version` refuses it: its go.mod has replace directives. In the copy
# they hold.
copy_of_jaeger() {
  local dir
  dir=$(download "github.com/jaegertracing/jaeger@v$1")
  cp -R -- "$dir" "$work/jaeger"
  chmod -R u+w -- "$work/jaeger"
}

build_jaeger() {
  copy_of_jaeger "$JAEGER_VERSION"
  (cd -- "$work/jaeger" && go build -trimpath \
    -ldflags "-s -w -X github.com/jaegertracing/jaeger/pkg/version.latestVersion=v$JAEGER_VERSION" \
    -o "$work/result" ./cmd/all-in-one)
}

# The module has each file of the page compressed, under its own name.
build_jaeger_ui() {
  local dir file
  dir=$(download "github.com/tonistiigi/jaeger-ui-rest@v$JAEGER_UI_VERSION")
  (cd -- "$dir/public" && find . -type f) | while read -r file; do
    mkdir -p -- "$(dirname -- "$work/result/$file")"
    gzip -dc <"$dir/public/$file" >"$work/result/$file"
  done
}

# What nothing here uses is left out of Jaeger 2, more than half of its packages: the
# components that its go.mod has for Kafka, for other protocols and for what the Collector
# does in its place; and the client of Elasticsearch, in whose place one says so.
readonly JAEGER2_WITHOUT='kafkaexporter|kafkareceiver|jaegerreceiver|zipkinreceiver|prometheusexporter|spanmetricsconnector|attributesprocessor|filterprocessor|tailsamplingprocessor|basicauthextension|sigv4authextension'

build_jaeger2() {
  copy_of_jaeger "$JAEGER2_VERSION"
  cp -R -- "$here/no-elasticsearch" "$work/jaeger/no-elasticsearch"
  (cd -- "$work/jaeger" &&
    sed -Ei "/($JAEGER2_WITHOUT)(\"|\.NewFactory)/d" cmd/jaeger/internal/components.go &&
    go mod edit -replace github.com/elastic/go-elasticsearch/v9=./no-elasticsearch &&
    go build -trimpath -ldflags '-s -w' -o "$work/result" ./cmd/jaeger)
}

build_golangci_lint() {
  go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$GOLANGCI_LINT_VERSION"
  mv -- "$work/gobin/golangci-lint" "$work/result"
}

build_nfpm() {
  go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@v$NFPM_VERSION"
  mv -- "$work/gobin/nfpm" "$work/result"
}

build_cyclonedx_gomod() {
  go install "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v$CYCLONEDX_GOMOD_VERSION"
  mv -- "$work/gobin/cyclonedx-gomod" "$work/result"
}

# provide TOOL builds TOOL when it is absent and prints its path. One lock for
# all tools: two of these builds at once exhaust a small machine.
provide() {
  local tool=$1 path started
  path=$(path_of "$tool")
  if [[ ! -x $path ]]; then
    mkdir -p -- "$bin"
    exec 9>"$bin/.lock"
    flock 9
    if [[ ! -x $path ]]; then
      started=$SECONDS
      # What a killed build left; nobody else builds while this holds the lock.
      rm -rf -- "$bin"/.build.*
      say "building $tool into $path (minutes, once)"
      work=$(mktemp -d "$bin/.build.XXXXXX")
      export GOBIN=$work/gobin
      "build_${tool//-/_}" >&2
      chmod 755 "$work/result"
      mv -f -- "$work/result" "$path"
      remove_work
      say "built $tool in $((SECONDS - started)) s"
    fi
    exec 9>&-
  fi
  echo "$path"
}

main() {
  [[ $# -eq 1 ]] || die "usage: build.sh collector|jaeger|jaeger2|jaeger-ui|golangci-lint|nfpm|cyclonedx-gomod|all"
  command -v go >/dev/null || die "go is not on PATH: install the Go version that go.mod names"
  trap remove_work EXIT
  # GOVERSION, part of the linter's name, is the one of the directory's module.
  cd -- "$here"
  # The tools are modules of their own: neither a workspace nor -mod=vendor of
  # the caller is theirs.
  export GOWORK=off GOFLAGS="-p=${OTEL_KPROBE_BUILD_JOBS:-$("$here/../parallel.sh")} -buildvcs=false" CGO_ENABLED=0
  local tool tools=("$1")
  [[ $1 != all ]] || tools=(collector jaeger jaeger2 golangci-lint nfpm cyclonedx-gomod)
  for tool in "${tools[@]}"; do path_of "$tool" >/dev/null; done
  for tool in "${tools[@]}"; do provide "$tool"; done
}

main "$@"
