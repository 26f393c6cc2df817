# Two commands do everything from a fresh clone: `make run` and `make test`.
SIM ?= verilator
PCAP ?=
ARGS ?=
JOBS ?= 2
PY := .venv/bin/python
IOVIRT := .venv/bin/iovirt
PCAP_ARG = $(if $(PCAP),--pcap '$(PCAP)')
export PYTHONWARNINGS ?= default

.PHONY: help setup run test test-full test-collisions lint format sim waves synth synth-full bench \
	formal formal-quick conformance coverage docs linux test-linux clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup: .venv/.installed ## Make .venv and install what is missing

.venv/.installed: pyproject.toml tools/setup.sh
	@sh tools/setup.sh

run: setup ## The main demonstration: three guests on three VFs (PCAP=file, ARGS=...)
	@$(IOVIRT) run demo $(PCAP_ARG) $(ARGS)

sim: setup ## The demonstration on SIM=verilator|icarus (icarus: configuration tiny, few packets)
	@$(IOVIRT) run demo --sim $(SIM) $(if $(filter icarus,$(SIM)),--config tiny --packets 24) \
		$(PCAP_ARG) $(ARGS)

waves: setup ## The demonstration with waves of all ports in build/waves.vcd, and their check
	@$(IOVIRT) run demo --waves build/waves.vcd $(PCAP_ARG) $(ARGS)
	@$(IOVIRT) waves check build/waves.vcd

test: setup ## Fast tests, on all cores; simulations are built fast rather than to be fast
	@IOVIRT_QUICK=1 $(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "not full" --durations 30 $(ARGS)

test-full: setup ## Every test, the exhaustive ones too
	@$(PY) -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

test-collisions: setup ## The RTL's tests where memories give nonsense for what is read while it is written
	@IOVIRT_COLLIDE=1 $(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "not full" \
		tests/rtl tests/cosim/nic_fuzz tests/cosim/test_resets.py tests/cosim/fuzz $(ARGS)

lint: setup ## ruff and pyright
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright

format: setup ## Let ruff format everything
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

synth: setup ## Cells of `default`; cells and clock of the IOMMU of `tiny` and `full`, three seeds
	@$(PY) -m rtl.fpga.synth --config default --top system --cells-only --json build/cells.json
	@$(PY) -m rtl.fpga.synth --config tiny full --json build/synth.json $(ARGS)

synth-full: setup ## The clock of the whole of `default`, three seeds, if it fits
	@$(PY) -m rtl.fpga.synth --config default --top system --json build/synth-full.json $(ARGS)

bench: setup ## Figures of the IOMMU in cycles, and the hyper-tenant curve (docs/figures.md)
	@mkdir -p build
	@$(IOVIRT) bench iommu --json build/bench-iommu.json $(ARGS)
	@$(IOVIRT) bench hyper --json build/bench-hyper.json

formal: setup ## Proofs, with covers and planted bugs (minutes)
	@$(PY) -m tests.formal $(ARGS)

formal-quick: setup ## The same over fewer cycles (at most 3 minutes)
	@$(PY) -m tests.formal --quick $(ARGS)

conformance: setup ## Replay the shipped vectors on golden model and RTL
	@$(IOVIRT) conformance tests/conformance --target golden
	@$(IOVIRT) conformance tests/conformance --target rtl

docs: setup ## Write what is generated from models/spec: docs/*.md, include/iovirt.h
	@$(PY) -m models.manual

linux: setup ## An unmodified Linux in QEMU drives the RTL (docs/linux.md; ARGS="amd64-vf")
	@mkdir -p build
	@$(IOVIRT) linux --json build/linux.json $(ARGS)

# Cases that share one build; those of rings have hardware of their own.
LINUX_CASES = amd64-vf amd64-paged two-guests riscv64-identity

test-linux: setup ## Cases of it on the smallest hardware, and a planted mistake that must be found
	@$(IOVIRT) linux --config tiny $(or $(ARGS),$(LINUX_CASES))
	@$(IOVIRT) linux --config tiny --plant no-invalidation amd64-paged

coverage: setup ## What conformance and fuzzing have hit on the RTL, and the holes
	@$(IOVIRT) conformance tests/conformance --target rtl
	@$(IOVIRT) fuzz iommu --config full --translations 100000
	@$(IOVIRT) coverage

clean: ## Remove what was built
	rm -rf build
