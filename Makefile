# Every target sets up what it needs first. On a fresh machine: sudo make demo, sudo make test.
PYTHON := .venv/bin/python
RUNG := $(PYTHON) -m kernlb.lab.rung
BENCH ?= bench.scale
KERNELS ?= 6.12 7.2
KERNEL_TESTS := tests/vm/test_kernels.py tests/vm/test_oldest_kernel.py tests/netns/ipvs/test_xdp_traffic.py
export DATAPATH ?= xdp
MAKEFLAGS += --no-print-directory

.PHONY: help setup setup-tests bpf demo test test-vm check dist bench bench-xdp bench-health kernels lab clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup:  ## install what is missing: distribution packages, .venv; compile what is newer
	@.ci/setup

setup-tests:  ## the same, and what only the tests need: oracles, a browser
	@.ci/setup tests

bpf: setup  ## compile the BPF programs into kernlb/datapath/xdp/objects

demo: setup  ## the main job, shown in a lab, by XDP on this kernel; or DATAPATH=ipvs (needs root)
	@$(if $(filter ipvs,$(DATAPATH)),$(RUNG) --timeout 600 --) $(PYTHON) -m kernlb.lab.demo

test: setup-tests check  ## lint, types, then all tests in one pytest run (needs root)
	@$(PYTHON) -m pytest $(ARGS)

test-vm: setup-tests  ## install on emulated Debian machines: role, methods, reboot, upgrade, removal (needs root)
	@$(PYTHON) -m tests.machines.stages $(ARGS)

dist:  ## wheel, sdist and .deb in dist/
	@.ci/setup dist
	@debian/build

check: setup  ## lint, format, types, and that imports point one way
	@$(PYTHON) -m ruff check -q
	@$(PYTHON) -m ruff format -q --check
	@$(PYTHON) -m mypy --no-error-summary
	@$(PYTHON) -m pytest -q --no-header --no-summary tests/unit/test_imports.py >/dev/null || \
		$(PYTHON) -m pytest -q tests/unit/test_imports.py

bench: setup  ## measure on a kernel with IPVS; BENCH=bench.scale ARGS=... (needs root)
	@mkdir -p bench/out
	@$(RUNG) --timeout 3600 --memory 4G --share bench/out -- $(PYTHON) -m $(BENCH) $(ARGS)

bench-xdp: bpf  ## ns a packet of the XDP program beside its floors, on this kernel; ARGS=--short (needs root)
	@$(PYTHON) -m bench.xdp $(ARGS)

bench-health: setup  ## checking 10 000 servers, beside keepalived's checker if it is installed; ARGS=--rounds 1 (needs root)
	@$(PYTHON) -m bench.health.scale $(ARGS)

kernels: setup  ## the XDP programs on stock Debian kernels; KERNELS="6.12 7.2" (downloads them; needs root)
	@for series in $(KERNELS); do $(RUNG) --kernel $$series --timeout 1500 -- $(PYTHON) -m pytest -q -rP \
		-p no:cacheprovider -m ipvs $(ARGS) $(KERNEL_TESTS) || failed="$$failed $$series"; done; \
	if [ "$$failed" ]; then echo "kernels: FAILED on$$failed" >&2; exit 1; fi

lab: setup  ## bring the lab up on this kernel and show it (needs root; down: kernlb lab down)
	@$(PYTHON) -m kernlb.cli lab up
	@$(PYTHON) -m kernlb.cli lab status

clean:  ## remove what was built and cached here, .venv too
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out dist build kernlb/datapath/xdp/objects
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
