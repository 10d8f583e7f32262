# Test virtual machines: included by the top-level Makefile.

KERNEL ?= 6.12

.PHONY: deps vm vm-images vm-selftest

deps: ## Install the Debian packages that build and tests need
	test/vm/deps.sh

vm: ## Open a shell in a VM with KERNEL=5.10, 6.1, 6.12 or 7.3 (SHARE=dir appears at /share)
	test/vm/run.sh --kernel $(KERNEL) $(if $(SHARE),--share $(SHARE)) --peers --shell

vm-images: ## Download and build the kernels and root file systems that the tests boot, once
	test/vm/images.sh all

vm-selftest: ## Boot every kernel and check the harness itself
	test/vm/selftest.sh
