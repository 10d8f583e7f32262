# Benchmarks in virtual machines: included by the top-level Makefile.

.PHONY: bench-vm

bench-vm: ## Measure what tracing costs against no tracing and pwru, in a VM (docs/benchmarks.md)
	test/bench/vm.sh --kernel $(or $(KERNEL),6.12)
