# The kernel programs: included by the top-level Makefile.

.PHONY: generate check-generate

generate: ## Compile the kernel programs anew (clang 14) and generate their Go files
	go generate ./bpf

check-generate: ## Check that the generated files are what their source gives
	bpf/check-generate.sh
