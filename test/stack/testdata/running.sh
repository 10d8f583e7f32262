#!/bin/bash
# Runs docker-compose.yaml in a guest that has dockerd: TestStackRuns. What its Jaeger
# has comes back in /out, a file for each search, as the page gets it. BUSYBOX, JAEGER and
# COLLECTOR are the names of images that docker-compose.yaml pins.
set -euo pipefail
export COMPOSE_FILE=docker-compose.yaml:test/stack/testdata/standins.yaml
# In emulation a request, its packets and their spans take seconds of processor time.
export DEMO_RATE=0.2
jaeger=http://127.0.0.1:16686

step() { echo "$(cut -d ' ' -f 1 /proc/uptime) s: $*"; }

# What a user would look at.
report() {
	local status=$?
	[[ $status -ne 0 ]] || return 0
	docker compose ps --all || true
	docker ps --all --quiet | xargs -r docker inspect --format '{{.Name}}: {{json .State}}' || true
	docker compose logs --tail 20 || true
	tail -n 20 /tmp/containerd.log /tmp/dockerd.log
}

# await COMMAND… waits until it succeeds.
await() {
	local tries
	for ((tries = 0; tries < 300; tries++)); do
		! "$@" || return 0
		sleep 1
	done
	echo "waited in vain for: $*" >&2
	return 1
}

start_docker() {
	# overlayfs, which images are kept in, does not lie on the guest's root, an overlayfs.
	mke2fs -q -t ext4 /dev/scratch
	mkdir -p /var/lib/docker
	mount /dev/scratch /var/lib/docker
	# Not by dockerd, which gives it 15 s: as long as it may take in emulation.
	containerd >/tmp/containerd.log 2>&1 &
	await test -S /run/containerd/containerd.sock
	dockerd --containerd /run/containerd/containerd.sock >/tmp/dockerd.log 2>&1 &
	await curl --silent --fail --output /dev/null --unix-socket /run/docker.sock http://docker/_ping
	docker info --format 'docker {{.ServerVersion}}: {{.Driver}}, cgroups {{.CgroupVersion}}, {{.SecurityOptions}}'
}

# What stands in for images of registries: busybox with Debian's build of that version,
# the others with what test/backends/build.sh makes of modules, and with the paths, users
# and entry points of
# https://github.com/jaegertracing/jaeger/blob/v2.13.0/cmd/jaeger/Dockerfile (from Alpine
# Linux, whose wget is busybox's, too) and
# https://github.com/open-telemetry/opentelemetry-collector-releases/blob/main/distributions/otelcol-contrib/Dockerfile
import_images() {
	local tree=/tmp/busybox jaeger collector
	mkdir -p "$tree"/{bin,etc,root,tmp}
	chmod 1777 "$tree/tmp"
	cp "$(command -v busybox)" "$tree/bin/busybox"
	chroot "$tree" /bin/busybox --install -s /bin
	echo root:x:0:0:root:/root:/bin/sh >"$tree/etc/passwd"
	import "$BUSYBOX" 'CMD ["sh"]' "$tree" .
	mkdir -p "$tree/cmd/jaeger"
	cp /share/tools/jaeger "$tree/cmd/jaeger/jaeger-linux"
	jaeger=$'ENV JAEGER_LISTEN_HOST=0.0.0.0\nVOLUME ["/tmp"]\nUSER 10001\nENTRYPOINT ["/cmd/jaeger/jaeger-linux"]'
	import "$JAEGER" "$jaeger" "$tree" .
	collector=$'USER 10001\nENTRYPOINT ["/otelcol-contrib"]'
	import "$COLLECTOR" "$collector" /share/tools otelcol-contrib
}

# import IMAGE CHANGES DIRECTORY FILE makes an image of a file, or of all.
import() {
	local changes=() change
	while read -r change; do changes+=(--change "$change"); done <<<"$2"
	tar -C "$3" -c "$4" | docker import "${changes[@]}" - "$1" >/tmp/imported
}

check_files() {
	local profile
	for profile in jaeger tempo '*'; do docker compose --profile "$profile" config --quiet; done
	COMPOSE_FILE=docker-compose.yaml:deploy/compose-older-kernels.yaml docker compose config --quiet
	# A profile that is named takes the place of that in .env.
	docker compose --profile tempo config --services >/tmp/services
	[[ $(grep '^otel-collector' /tmp/services) == otel-collector-tempo ]]
}

# search SERVICE NAME=VALUE… prints the traces that Jaeger's page finds.
search() {
	local service=$1 parameters=()
	shift
	local parameter
	for parameter in "$@"; do parameters+=(--data-urlencode "$parameter"); done
	curl -sS --fail --get "$jaeger/api/traces" --data-urlencode "service=$service" "${parameters[@]}"
}

# keep FILE SERVICE NAME=VALUE… waits until the search finds something, and keeps it.
keep() {
	await finds "/out/$1.json" "${@:2}"
	step "Jaeger has $1"
}
finds() { search "${@:2}" >"$1" && grep -q '"traceID"' "$1"; }

trap report EXIT
cd /share/checkout
start_docker
step "docker runs"
check_files
step "docker compose takes the files"
import_images
step "images are there"
docker compose --progress plain up -d --build --wait
step "all services are healthy"

! (: </dev/tcp/127.0.0.1/8081) 2>/dev/null # nobody listens: the kernel drops the packet
tied='tags={"otel_kprobe.app.source":"helper"}'
keep packets otel-kprobe operation="packet tx tcp" "$tied" limit=20
keep blocks otel-kprobe 'tags={"disk.io.direction":"write","otel_kprobe.app.source":"helper"}' limit=20
keep drops otel-kprobe 'tags={"otel_kprobe.drop.reason":"NO_SOCKET"}' limit=5

docker compose restart otel-kprobe
docker compose up -d --wait otel-kprobe
step "otel-kprobe was restarted"
keep restarted otel-kprobe operation="packet tx tcp" "$tied" limit=20 start="$(date +%s000000)"
# Services send their spans each five seconds, and the Collector waits for the rest of a trace.
sleep 15
keep requests demo-load limit=1000

docker compose logs --no-log-prefix otel-kprobe
docker compose --profile '*' down --volumes
step "all is down"
left=$(docker ps --all --quiet && docker volume ls --quiet && docker network ls --quiet --filter name=otel-kprobe)
[[ -z $left ]] || { echo "docker compose down leaves $left" >&2; exit 1; }
