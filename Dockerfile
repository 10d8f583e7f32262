# The images of docker-compose.yaml:
#
#   docker build --target otel-kprobe -t otel-kprobe .
#   docker build --target demo -t otel-kprobe-demo .
#
# Behind a proxy of modules: --build-arg GOPROXY=…, as for any Go build.

FROM golang:1.26.8-bookworm AS source
ARG GOPROXY
ARG GOSUMDB
WORKDIR /src
COPY . .

FROM source AS build-otel-kprobe
# Filters are compiled by libpcap, which is linked into the static binary.
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libpcap-dev && \
    rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    make binary

FROM source AS build-demo
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd demo && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/demo-app .

# busybox has what the health checks call: wget.
FROM busybox:1.37.0 AS demo
COPY --from=build-demo /out/demo-app /usr/local/bin/demo-app
# A named volume that is mounted here gets this owner.
RUN mkdir /data && chown 65534:65534 /data
USER 65534:65534
ENTRYPOINT ["demo-app"]

FROM busybox:1.37.0 AS otel-kprobe
# For receivers with TLS (--otlp=https://…).
COPY --from=build-otel-kprobe /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-otel-kprobe /src/bin/otel-kprobe /usr/local/bin/otel-kprobe
# root, since a process of another user has no capabilities of its own after exec
# (capabilities(7)). Which ones there are, the container's settings say.
ENTRYPOINT ["otel-kprobe"]
