# The targets install what a new Debian or Ubuntu machine lacks: packages by apt, Python packages
# into .venv, and a Docker engine if none responds. `make help` lists the targets.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-pool test-shared-pool test-own-pools pool-image test-escape unit lint count format bench venv engine
.PHONY: test-beside-hosts test-beside-galaxy lab lab-needs lab-down test-hosts test-lab test-lab-slow
.PHONY: test-fields test-docs test-upgrade test-autofs test-galaxy-hosts bench-handlers galaxy-venv postgresql gx-it-proxy test-galaxy test-celery test-interactive bench-galaxy
.PHONY: snakemake-venv test-snakemake bench-snakemake
.PHONY: promtool grafana-schema test-promtool metrics-reference
.PHONY: chromium test-browser bench-page screenshots
.PHONY: docs linkcheck reference changelog dist sbom test-dist test-floors reproducible release-dry-run
.PHONY: test-engine test-guest test-ssh test-pythons test-clients test-galaxies test-snakemakes matrix
.PHONY: tpv-database fuzz image-locks bench-negotiation bench-pool bench-scale bench-simulation bench-usage pictures chaos
.PHONY: faults faults-engine faults-on-hosts faults-hosts faults-managers soak test-faults

BIN := .venv/bin
GALAXY_BIN := .venv-galaxy/bin
# For bench-galaxy: the jobs of a run, their durations in seconds (one run for each), the number of
# rounds, and the runners to compare.
JOBS := 200
LENGTHS := 0 120
ROUNDS := 1
RUNNERS := swarm floor condor htcondor
FUZZ_EXAMPLES := 1000000
LAB := tests/lab
# For test-engine: bookworm (20.10), trixie (26.1), sid (28.5) or as-29 (28.5, set as Docker 29 is), and
# the tests. For test-pythons, test-clients, test-galaxies and test-snakemakes: the versions.
ENGINE := trixie
ENGINE_TESTS := tests/contract tests/integration
PYTHONS := 3.11 3.12 3.13 3.14
CLIENTS := 25.0.14 25.10.1 25.14.1
GALAXIES := 25.0 26.1
SNAKEMAKES := 9.20 9
CELLS :=
# The name and port of the pool for Snakemake's tests.
SNAKEMAKE_POOL := swarm-runner-smk 9771
# Runs a command that uses the Docker engine, even if the user is not in its group.
WITH_ENGINE := $(LAB)/with-engine
# Of the tests of a real pool, those that `make test` runs.
POOL_MARKS := not fields and not guides and not previous_version and not autofs
CODE := swarm_runner tests plugins/simulation docs/_extensions
# The unit tests, one process for each processor.
UNIT_TESTS := tests/unit plugins/simulation/tests --numprocesses auto --dist worksteal
PROSE := *.md $(shell find docs plugins -name '*.md' -not -path '*/.*')

# The code on a container job's way in docs/architecture.md, from invocation to outcome, and the most
# lines of it. Not on it: virtual machines (model/vm.py, submit/vm.py, runner/vm); accounts, limits,
# labels and loans, which most invocations do without (model/scheduling.py, submit/scheduling.py,
# policy/placement.py); inputs by URL (model/sources.py, policy/fetches.py), which the pool's nodes fetch;
# published ports (submit/ports.py, runner/published_ports.py); the pool's configuration
# (model/pool.py, volumes.py and isolation.py); the queries of the provisioner, of `doctor` and of explain
# (condor/pool_query.py, daemons.py, slot_ads.py and accounting.py, runner/explanation.py and turns.py); the
# reader of a job's output (runner/job_output.py), which no job waits for; child processes of servers and of
# the page (condor/access_point_process.py, pool_query_process.py and token_check.py); the sentences about an
# access point's limits (condor/submit_limits.py); the choice among the managers of a pool that has several
# (condor/manager_addresses.py); and the guards beside the way, which say of a file, an ad or a token whether it
# is to be trusted, and know no job.
GUARDS := condor/attribute_values condor/tokens runner/safe_files runner/spool_record
BESIDE_THE_PATH := submit/vm submit/scheduling submit/ports condor/pool_query condor/daemons condor/slot_ads condor/access_point_process \
	condor/accounting condor/pool_query_process condor/submit_limits condor/token_check condor/manager_addresses \
	runner/explanation runner/turns runner/job_output runner/published_ports \
	$(GUARDS)
RUNNER_PATH := $(filter-out $(patsubst %,swarm_runner/%.py,$(BESIDE_THE_PATH)),swarm_runner/errors.py \
	$(patsubst %,swarm_runner/model/%.py,htcondor job invocation files resources units text wrapper) \
	$(wildcard swarm_runner/submit/*.py) swarm_runner/hooks \
	$(patsubst %,swarm_runner/policy/%.py,routing holds) \
	$(wildcard swarm_runner/condor/*.py swarm_runner/runner/*.py))
RUNNER_PATH_LINES := 4000

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: engine ## run the demonstration on a new pool, which stays up
	$(WITH_ENGINE) $(BIN)/swarm-runner demo --all

demo-down: engine ## take the demonstration's pool down
	$(WITH_ENGINE) $(BIN)/swarm-runner demo --down

# What installs packages comes first, one after another: apt has one lock.
test: lint unit pool-image lab-needs galaxy-venv postgresql snakemake-venv promtool chromium grafana-schema ## lint, then run all tests, on a real pool and on three hosts
	@$(WITH_ENGINE) $(BIN)/python -m tests.lab.with_swarm \
		$(LAB)/side-by-side test-shared-pool test-own-pools test-beside-hosts test-beside-galaxy

# All of them wait for most of their time.
test-beside-hosts: test-hosts test-snakemake
test-beside-galaxy: test-dist test-promtool test-browser test-galaxy

test-pool: test-shared-pool test-own-pools ## run the tests that need a real pool

test-shared-pool: engine ## run those that share one pool
	$(WITH_ENGINE) $(BIN)/pytest tests/contract tests/integration -m "$(POOL_MARKS) and shared_pool"

test-own-pools: engine promtool ## run those that bring pools of their own up
	$(WITH_ENGINE) $(BIN)/pytest tests/contract tests/integration -m "$(POOL_MARKS) and not shared_pool"

pool-image: engine
	@$(WITH_ENGINE) $(BIN)/python -m tests.lab.pool_image

test-engine: venv lab-needs promtool ## run contract and integration on the engine of another Debian release: ENGINE=sid
	$(BIN)/python -m tests.lab.engines with $(ENGINE) $(CURDIR)/$(BIN)/pytest $(ENGINE_TESTS) \
		-m "$(POOL_MARKS) and not faults"

test-guest: engine lab-needs ## run the smoke tests in an emulated machine with its own kernel and cgroup v2; half an hour
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.guest

test-ssh: engine lab-needs ## run the smoke tests and others on an engine that is reached by ssh
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.ssh

test-pythons: engine ## run unit and contract on other Pythons: PYTHONS="3.12 3.14"
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.pythons $(PYTHONS)

test-clients: engine ## run the access point's contract, outcomes and files with other versions of HTCondor's bindings: CLIENTS=25.0.14
	$(WITH_ENGINE) $(LAB)/clients $(CLIENTS)

test-galaxies: engine ## run plugins/galaxy on other releases of Galaxy: GALAXIES=25.0
	$(WITH_ENGINE) $(LAB)/galaxies $(GALAXIES)

test-snakemakes: engine ## run plugins/snakemake on other releases of Snakemake: SNAKEMAKES=9.20
	$(WITH_ENGINE) $(LAB)/snakemakes $(SNAKEMAKES)

matrix: venv ## run what fits into 90 minutes of the compatibility matrix, and write its page; CELLS="guest"
	$(BIN)/python -m tests.matrix run $(CELLS)

test-fields: engine ## run every cell of the field table that arrives, on a real pool; a quarter of an hour
	$(WITH_ENGINE) $(BIN)/pytest tests/integration -m fields

test-escape: engine ## try to get more from a real pool than it grants; print the table of docs/explanation/security.md
	$(WITH_ENGINE) $(BIN)/pytest tests/integration/test_escapes.py -q
	@cat .state/escapes.md

test-autofs: engine ## run jobs whose reference data is below a real autofs, as with CVMFS; a minute
	@$(LAB)/autofs
	$(WITH_ENGINE) $(BIN)/pytest tests/integration/test_autofs.py

test-faults: engine ## break a pool in the ten shortest ways of `make faults`, under a smaller load; four minutes, part of `make test`
	$(WITH_ENGINE) $(BIN)/pytest tests/integration/test_faults.py

test-upgrade: engine ## upgrade a pool of the previous version, with jobs in it; four minutes
	$(WITH_ENGINE) $(BIN)/pytest tests/integration/test_previous_version.py

test-docs: engine galaxy-venv snakemake-venv ## run the commands of the tutorial and of all guides, on real pools; six minutes
	$(WITH_ENGINE) $(BIN)/pytest tests/unit/test_docs.py tests/integration/test_first_minutes.py \
		tests/integration/test_docs.py tests/integration/test_engine_guides.py

test-galaxy: engine galaxy-venv postgresql ## check and test plugins/galaxy, on a real Galaxy and a real pool
	$(GALAXY_BIN)/mypy --config-file plugins/galaxy/setup.cfg
	$(WITH_ENGINE) $(GALAXY_BIN)/python -m pytest -c plugins/galaxy/setup.cfg plugins/galaxy/tests \
		--ignore plugins/galaxy/tests/end_to_end/test_interactive.py --ignore plugins/galaxy/tests/end_to_end/test_celery.py \
		--ignore plugins/galaxy/tests/end_to_end/test_production_on_hosts.py

test-galaxy-hosts: engine lab-needs galaxy-venv postgresql ## as root, follow "Galaxy in production" on the three hosts, a handler on each of two; ten minutes
	$(LAB)/on-hosts $(GALAXY_BIN)/python -m pytest -c plugins/galaxy/setup.cfg \
		plugins/galaxy/tests/end_to_end/test_production_on_hosts.py

test-celery: engine galaxy-venv postgresql ## let Galaxy's celery workers set the metadata, with PostgreSQL as their broker; a few minutes
	$(WITH_ENGINE) $(GALAXY_BIN)/python -m pytest -c plugins/galaxy/setup.cfg plugins/galaxy/tests/end_to_end/test_celery.py

test-interactive: engine galaxy-venv gx-it-proxy ## run interactive tools through Galaxy's own proxy; ten minutes, half of them to build the proxy
	$(WITH_ENGINE) $(GALAXY_BIN)/python -m pytest -c plugins/galaxy/setup.cfg -s plugins/galaxy/tests/end_to_end/test_interactive.py

test-snakemake: engine snakemake-venv ## test the wheel of plugins/snakemake, on fakes and on a real pool
	cd plugins/snakemake && .venv/bin/pytest tests/unit
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.with_pool $(SNAKEMAKE_POOL) \
		env -C plugins/snakemake .venv/bin/pytest tests/integration

tpv-database: ## fetch the TPV shared database of tools, which test-galaxy then tries as well
	$(LAB)/tpv-database

bench-snakemake: engine snakemake-venv ## compare snakemake-executor-plugin-htcondor with plugins/snakemake
	@$(LAB)/snakemake-peer
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.with_pool $(SNAKEMAKE_POOL) \
		env -C plugins/snakemake .venv/bin/python -m tests.benchmarks .venv-peer/bin/python $(OPTIONS)

snakemake-venv: venv
	@$(LAB)/snakemake-venv

unit: venv ## run the tests that need no Docker engine
	$(BIN)/pytest $(UNIT_TESTS)

fuzz: venv ## the reader on a million generated job_confs, destinations and invocations
	SWARM_RUNNER_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/unit/config/test_reader_properties.py

lint: venv ## run ruff, mypy, import-linter, codespell and proselint; check the forge's files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	cd plugins/snakemake && $(CURDIR)/$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/proselint --config .proselintrc.json check $(PROSE)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/release.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/check-jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml
	$(BIN)/zizmor --offline --quiet .github/workflows

metrics-reference: venv ## generate the tables of docs/reference/metrics.md
	$(BIN)/python -m tests.metrics_reference

count: venv ## count the lines of code from invocation to outcome; fail above the maximum
	@$(BIN)/python -m tests.code_size --max $(RUNNER_PATH_LINES) $(RUNNER_PATH)

format: venv ## format the code with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lab: export DOCKER_HOST :=
lab: engine lab-needs ## start three Swarm hosts on this machine; UP="--managers 3 --tls" for three managers and TLS
	@$(BIN)/python -m tests.lab.hosts up $(UP)

lab-needs:
	@$(LAB)/hosts-needs

promtool:
	@$(LAB)/promtool

grafana-schema:
	@$(LAB)/grafana-schema

test-promtool: venv promtool grafana-schema ## check metrics, alert rules and dashboard with Prometheus's tool and Grafana's types
	$(BIN)/pytest tests/promtool

chromium:
	@$(LAB)/chromium

test-browser: venv chromium ## check the page in Chromium: updates, keyboard, hostile text, accessibility by axe-core
	$(BIN)/pytest tests/browser

bench-page: venv chromium ## measure the page with 1,000 executors, 10,000 jobs and 1,000 browsers
	$(BIN)/python -m tests.benchmarks.page

screenshots: venv chromium ## take the pictures of the page in docs/pictures
	$(BIN)/python -m tests.browser.screenshots

lab-down: venv ## remove the three hosts
	@$(BIN)/python -m tests.lab.hosts down

test-hosts: lab-needs ## bring three hosts up, run the tests that break them, and take them down
	$(LAB)/on-hosts $(MAKE) test-lab

test-lab: UP := --tls
test-lab: lab ## run the tests that break hosts
	$(BIN)/pytest tests/lab_hosts -m "not slow"

test-lab-slow: UP := --tls
test-lab-slow: lab ## run the tests that wait minutes for a partitioned host or a stopped central manager
	$(BIN)/pytest tests/lab_hosts -m slow

bench: engine ## measure the README's claims on a real pool
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks

bench-negotiation: engine ## measure the negotiator's cycle with 5,000 slots and 100,000 idle jobs
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks.negotiation

bench-scale: engine ## measure a pool of 200 executors and 100,000 queued jobs; half an hour, 20 GB of memory
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks.scale

bench-pool: engine ## measure the autoscaler on a real pool
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks.pool

bench-usage: engine ## measure `swarm-runner usage`, and replay its advice in the simulator
	$(WITH_ENGINE) $(BIN)/python -m tests.benchmarks.usage --pool

bench-simulation: venv ## compare the sizing policy with others on simulated days
	$(BIN)/python -m tests.benchmarks.simulation --large

dist: venv ## build the wheels and sdists of all distributions in dist/, and check them
	$(BIN)/python -m tests.lab.distributions dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

image-locks: engine ## list what the images install, with hashes, for this machine's architecture
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.image_locks

release-dry-run: venv ## check the release workflow, and run its commands in a new clone; five minutes
	$(BIN)/python -m tests.lab.release_dry_run

test-floors: ## run the unit tests with the oldest versions of what the package requires
	$(LAB)/floors

reproducible: engine ## build wheels, sdists and images twice, and compare them; eight minutes
	$(WITH_ENGINE) $(BIN)/python -m tests.lab.reproducible

sbom: engine dist ## write what the images and the wheels contain to dist/sbom, as CycloneDX
	test -x .venv-sbom/bin/debsbom || { python3 -m venv .venv-sbom && \
		.venv-sbom/bin/pip install -q "debsbom==0.10.*" "cyclonedx-bom==7.*" .; }
	$(WITH_ENGINE) env PYTHONPATH=. .venv-sbom/bin/python -m tests.lab.sbom dist/sbom

test-dist: venv ## install the built wheels alone into new environments, and use them
	$(BIN)/pytest tests/distributions

docs: venv ## build the documentation site in .state/site; warnings are errors
	$(BIN)/sphinx-build -E -b html -q -W --keep-going -d .state/site-cache docs .state/site
	@echo "The site is .state/site/index.html"

linkcheck: venv ## follow every external link of the site; needs the internet
	$(BIN)/sphinx-build -b linkcheck -q -d .state/site-cache docs .state/linkcheck

changelog: venv ## join the fragments of changelog.d into CHANGELOG.md, as VERSION
	$(BIN)/towncrier build --version $(VERSION)

reference: venv ## generate the tables and schemas that the reference contains
	$(BIN)/python -m tests.reference_tables
	$(BIN)/python -m tests.external_links
	$(BIN)/swarm-runner schema --write schemas

pictures: venv ## generate the pictures in docs/
	$(BIN)/swarm-runner pool simulate bursts --min 0 --picture docs/pictures/bursts.svg
	$(BIN)/swarm-runner pool simulate daily --min 0 --picture docs/pictures/daily.svg
	$(BIN)/python -m tests.benchmarks.simulation --picture docs/pictures/curve.svg
	$(BIN)/python -m tests.screenshots

faults: engine pool-image lab-needs ## break pools in every way under load, and write docs/explanation/faults.md; 40 minutes
	$(LAB)/side-by-side faults-engine faults-on-hosts
	$(WITH_ENGINE) $(BIN)/python -m tests.faults page

faults-engine: engine pool-image
	@$(LAB)/faketime
	$(WITH_ENGINE) $(BIN)/python -m tests.faults engine

faults-on-hosts: lab-needs
	$(LAB)/on-hosts $(MAKE) faults-hosts

faults-hosts: lab-needs pool-image
	$(BIN)/python -m tests.faults hosts; hosts=$$?; $(BIN)/python -m tests.faults managers && exit $$hosts

faults-managers: lab-needs pool-image ## lose, cut off, freeze and drain the node of the queue under 300 running jobs
	$(LAB)/on-hosts $(BIN)/python -m tests.faults managers

MINUTES := 60
soak: engine pool-image ## a fault in every one of MINUTES minutes; fails if a daemon has grown
	$(WITH_ENGINE) $(BIN)/python -m tests.faults soak --minutes $(MINUTES)

chaos: lab ## run jobs on the three hosts while the pool is scaled, upgraded and drained
	$(BIN)/python -m tests.chaos

venv: ## create the virtual environment .venv
	@$(LAB)/venv

bench-galaxy: engine galaxy-venv ## compare Galaxy's HTCondor runners with ours, on a real Galaxy and pool
	@cd plugins/galaxy/tests && $(CURDIR)/$(WITH_ENGINE) env PYTHONPATH=$(CURDIR):. $(CURDIR)/$(GALAXY_BIN)/python -m benchmarks \
		--jobs $(JOBS) --seconds $(LENGTHS) --rounds $(ROUNDS) --runners $(RUNNERS)

bench-handlers: JOBS := 1000
bench-handlers: engine galaxy-venv postgresql ## 1,000 jobs at once through two of Galaxy's handlers, with each HTCondor runner; two hours
	@cd plugins/galaxy/tests && $(CURDIR)/$(WITH_ENGINE) env PYTHONPATH=$(CURDIR):. $(CURDIR)/$(GALAXY_BIN)/python \
		-m benchmarks.handlers --jobs $(JOBS)

postgresql:
	@$(LAB)/postgresql

gx-it-proxy:
	@$(LAB)/gx-it-proxy

galaxy-venv: ## create the virtual environment .venv-galaxy with Galaxy (800 MB)
	@$(LAB)/galaxy-venv

engine: venv ## start a Docker engine if none responds, and get the base image
	@$(LAB)/engine-start
	@$(WITH_ENGINE) $(BIN)/python -m tests.lab.base_image
