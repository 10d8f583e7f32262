# The two commands of the README are `make demo` and `make test`: both set up
# what they need on a fresh Debian machine with Go.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
KERNELS := 5.10 6.1 6.12 7.3
BINARY := bin/otel-kprobe
# Static: the released binary needs nothing at run time.
STATIC := -tags osusergo,netgo -ldflags '-linkmode external -extldflags "-static -Wl,--no-warnings" -s -w'

include test/vm/vm.mk

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: build
build: deps binary ## Build the static binary bin/otel-kprobe

.PHONY: binary
binary: ## The same, where gcc, libc6-dev and libpcap-dev are installed
	CGO_ENABLED=1 $(GO) build -trimpath $(STATIC) -o $(BINARY) ./cmd/otel-kprobe

.PHONY: demo-app
demo-app: ## Build the static binary bin/demo-app: a small application to watch
	CGO_ENABLED=0 $(GO) -C demo build -trimpath -o $(CURDIR)/bin/demo-app .

.PHONY: demo
demo: build ## Show a ping's way through the kernel and the requests of a dd: in a VM, or natively where this host can trace
	test/demo.sh

.PHONY: pictures
pictures: build demo-app ## Make the README's pictures of Jaeger anew: a run in a VM, a headless browser
	test/pictures/make.sh

.PHONY: test
test: deps ## Everything: unit, generated code, lint, four kernels, Collector and Jaeger
	test/all.sh

.PHONY: test-unit
test-unit: ## Unit tests with the race detector, and once without cgo
	$(GO) vet ./...
	$(GO) test -race ./...
	CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test ./...
	$(GO) -C demo test -race ./...
	$(GO) -C test test -race ./truth

.PHONY: check-generate
check-generate: deps ## Prove that the committed BPF objects match the C sources
	bpf/check-generate.sh

.PHONY: generate
generate: deps ## Build the BPF objects anew
	$(GO) generate ./bpf

.PHONY: lint
lint: ## Run golangci-lint over all modules
	lint=$$(test/backends/build.sh golangci-lint); for module in . demo test; do (cd $$module; $$lint run --build-tags vm ./...); done

.PHONY: check-docs
check-docs: build ## Hold the README's flags, targets and links to the program
	test/docs.sh

.PHONY: check-deploy
check-deploy: build ## Hold deploy/ to the program, to systemd and Kubernetes, and inspect a release
	test/deploy.sh

.PHONY: release
release: deps ## Build a release of the commit into out/release: binary, tarball, Debian package, SBOM, checksums
	deploy/release.sh

.PHONY: test-kernels
test-kernels: build vm-images ## Scenarios on real kernels (KERNELS="6.12" for one)
	test/kernels.sh $(KERNELS)

SOAK := 30m

.PHONY: soak
soak: build vm-images ## Mixed load on 6.12 for half an hour: memory flat, sums exact (SOAK=10m for less)
	OTEL_KPROBE_SOAK=$(SOAK) test/kernels.sh --suite soak --run '^TestSoak$$' 6.12

.PHONY: test-e2e
test-e2e: build vm-images ## Spans from a VM read back from a real Collector and Jaeger; the stack of docker-compose.yaml
	test/backends/build.sh all
	OTEL_KPROBE_BIN=$(CURDIR)/$(BINARY) $(GO) -C test test -count=1 -timeout 75m ./e2e ./stack

.PHONY: bench
bench: ## Cost of a span from record to OTLP, beside the SDK's way
	$(GO) test -run '^$$' -bench . -benchmem ./internal/bench

.PHONY: bench-vm
bench-vm: build vm-images ## Overhead on 6.12 by instruction count, beside pwru, biolatency and biosnoop
	test/bench/vm.sh

.PHONY: clean
clean: ## Remove what was built here (the caches stay)
	rm -rf bin out
