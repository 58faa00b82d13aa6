# What a fresh Debian or Ubuntu machine needs is installed by the targets themselves: packages by
# apt, Python's into .venv, a Docker engine if none answers. `make help` lists the targets.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test unit lint format bench venv engine
.PHONY: lab lab-needs lab-down test-lab test-lab-slow
.PHONY: galaxy-venv test-galaxy bench-galaxy
.PHONY: snakemake-venv test-snakemake bench-snakemake
.PHONY: bench-pool bench-simulation pictures chaos

BIN := .venv/bin
GALAXY_BIN := .venv-galaxy/bin
# In bench-galaxy: jobs in each run, for how many seconds they sleep (a run for each), and runners.
# Fewer of each are shorter.
JOBS := 200
LENGTHS := 0 120
ROUNDS := 1
RUNNERS := swarm floor condor htcondor
LAB := tests/lab
# The name and the port of the pool that Snakemake's tests bring up.
SNAKEMAKE_POOL := swarm-runner-smk 9771
# Commands that talk to the engine; for a user outside its group too.
WITH_ENGINE := $(LAB)/with-engine
CODE := swarm_runner tests demo plugins/simulation
UNIT_TESTS := tests/unit plugins/simulation/tests
PROSE := *.md $(shell find docs plugins -name '*.md' -not -path '*/.*')

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: engine ## bring up a pool and run the demonstration on it; leaves the pool up
	$(WITH_ENGINE) $(BIN)/python -m demo

demo-down: engine ## take down what the demonstration left
	$(WITH_ENGINE) $(BIN)/python -m demo --down

test: lint engine ## lint, then every test, on a real pool and on three hosts that come and go
	$(WITH_ENGINE) $(BIN)/pytest $(UNIT_TESTS) tests/contract tests/integration
	@$(MAKE) test-galaxy
	@$(MAKE) test-snakemake
	$(LAB)/on-hosts $(MAKE) test-lab

test-galaxy: engine galaxy-venv ## types and tests of plugins/galaxy, on a real Galaxy and a real pool
	$(GALAXY_BIN)/mypy --config-file plugins/galaxy/setup.cfg
	$(WITH_ENGINE) $(GALAXY_BIN)/python -m pytest -c plugins/galaxy/setup.cfg plugins/galaxy/tests

test-snakemake: engine snakemake-venv ## tests of plugins/snakemake, from its wheel, on fakes and on a real pool
	cd plugins/snakemake && .venv/bin/pytest tests/unit
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.with_pool $(SNAKEMAKE_POOL) \
		env -C plugins/snakemake .venv/bin/pytest tests/integration

bench-snakemake: engine snakemake-venv ## the figures of plugins/snakemake beside the peer's, on a real pool
	@$(LAB)/snakemake-peer
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.with_pool $(SNAKEMAKE_POOL) \
		env -C plugins/snakemake .venv/bin/python -m tests.benchmarks .venv-peer/bin/python $(OPTIONS)

snakemake-venv: venv
	@$(LAB)/snakemake-venv

unit: venv ## the tests that need no engine
	$(BIN)/pytest $(UNIT_TESTS)

lint: venv ## ruff, mypy, import-linter, codespell, proselint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	cd plugins/snakemake && $(CURDIR)/$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/proselint --config .proselintrc.json check $(PROSE)

format: venv ## rewrite the code as ruff would have it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lab: export DOCKER_HOST :=
lab: engine lab-needs ## three Swarm hosts on this machine; UP="--managers 3 --tls" for more of them to manage, and TLS
	@$(BIN)/python -m tests.lab.hosts up $(UP)

lab-needs:
	@$(LAB)/hosts-needs

lab-down: venv ## remove them
	@$(BIN)/python -m tests.lab.hosts down

test-lab: UP := --tls
test-lab: lab ## the tests that break hosts, on those three
	$(BIN)/pytest tests/lab_hosts -m "not slow"

test-lab-slow: UP := --tls
test-lab-slow: lab ## what takes minutes to be given up: a host cut off, the manager away for two minutes
	$(BIN)/pytest tests/lab_hosts -m slow

bench: engine ## the table of figures, measured on a real pool
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks

bench-pool: engine ## how soon a pool that looks after itself does so, on a real pool
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks.pool

bench-simulation: venv ## the sizing policy beside others on simulated days, and a day of a million jobs
	$(BIN)/python -m tests.benchmarks.simulation --large

pictures: venv ## the pictures in docs/ anew; they change only when what they show does
	$(BIN)/swarm-runner pool simulate bursts --min 0 --picture docs/pictures/bursts.svg
	$(BIN)/swarm-runner pool simulate daily --min 0 --picture docs/pictures/daily.svg
	$(BIN)/python -m tests.benchmarks.simulation --picture docs/pictures/curve.svg

chaos: lab ## jobs while the pool is scaled, upgraded and drained, on the three hosts
	$(BIN)/python -m tests.chaos

venv: ## the virtual environment .venv
	@$(LAB)/venv

bench-galaxy: engine galaxy-venv ## Galaxy's own HTCondor runners beside ours, on a real Galaxy and pool
	@cd plugins/galaxy/tests && $(CURDIR)/$(WITH_ENGINE) env PYTHONPATH=$(CURDIR):. $(CURDIR)/$(GALAXY_BIN)/python -m benchmarks \
		--jobs $(JOBS) --seconds $(LENGTHS) --rounds $(ROUNDS) --runners $(RUNNERS)

galaxy-venv: ## the virtual environment .venv-galaxy: a whole Galaxy (800 MB)
	@$(LAB)/galaxy-venv

engine: venv ## a Docker engine that answers, and the base image
	@$(LAB)/engine-start
	@$(WITH_ENGINE) $(BIN)/python -m tests.lab.base_image
