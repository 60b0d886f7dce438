# Two commands do everything on a machine that has python3, make and git: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash

UV_VERSION := 0.13.9
# A uv that is installed is used; otherwise one is put into .uv, and nowhere else.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON := .venv/bin/python
STAMP := .venv/.synced
# The rivals of `make bench` live apart: nothing of the product may come to depend on them.
BENCH_PYTHON := .venv-bench/bin/python
BENCH_STAMP := .venv-bench/.synced
# What a server runs, and the tools that list and audit it.
RUNTIME_STAMP := .venv-runtime/.synced
AUDIT_STAMP := .venv-audit/.synced
# Half of the time a test waits for a server: two processors are busy with four of them at a time.
TESTS_AT_ONCE := 4
# One after the other: a fault lasts as long as it says, and what a power cut loses is a matter of time.
APART := tests/chaos/test_smoke.py tests/chaos/test_planted.py tests/chaos/test_power_cuts.py
# Without compiled modules each of the hundreds of processes that tests start would compile them anew, in seconds.
unexport PYTHONDONTWRITEBYTECODE
PARTS := engine domain storage service api optimizer cli migrations dashboards

.PHONY: help setup demo test notebooks chaos power-cuts lint check serve bench bench-http bench-commits bench-memory calibrate lock mutants sbom audit clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: $(STAMP) ## make .venv with everything, from the pins in requirements.lock

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(STAMP): requirements.lock pyproject.toml client/pyproject.toml .python-version | $(filter .uv/bin/uv,$(UV))
	test -x $(PYTHON) || $(UV) venv --quiet .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation -e . -e ./client
	touch $(STAMP)

demo: setup ## three prompts, some thousand calls over HTTP, the split moving, the report
	.venv/bin/promptbandit demo

test: setup ## the whole suite, on SQLite and on a real PostgreSQL
	$(PYTHON) -m pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder $(APART:%=--ignore=%)
	$(PYTHON) -m pytest -n 0 $(APART)

notebooks: setup ## build and run all notebooks into notebooks/built (1 to 2 minutes)
	$(PYTHON) notebooks/build.py

chaos: setup ## faults under load, and a judge (CHAOS="--faults 126 --rate 120 --seed 7": 11 minutes)
	$(PYTHON) -m tests.chaos $(CHAOS)

power-cuts: setup ## cut the power under load, as root, and look for what was acknowledged (5 minutes)
	$(PYTHON) -m tests.chaos.power_cuts $(CUTS)

lint: setup ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PYTHON) -m mypy --num-workers 2

check: lint ## lint, types, import arrows, docs and changelog
	$(PYTHON) -m pytest -q tests/project tests/api/test_lists.py

serve: setup ## serve on http://127.0.0.1:8000 with promptbandit.db in this folder
	.venv/bin/promptbandit serve

$(BENCH_STAMP): requirements-bench.lock pyproject.toml | $(filter .uv/bin/uv,$(UV))
	test -x $(BENCH_PYTHON) || $(UV) venv --quiet .venv-bench
	VIRTUAL_ENV=.venv-bench $(UV) pip sync --quiet --require-hashes requirements-bench.lock
	VIRTUAL_ENV=.venv-bench $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	touch $(BENCH_STAMP)

bench: setup $(BENCH_STAMP) ## what things cost beside their rivals, as ratios in one run (half an hour)
	$(BENCH_PYTHON) -m benchmarks.best_arm --write-docs
	$(BENCH_PYTHON) -m benchmarks.decisions --write-docs
	$(BENCH_PYTHON) -m benchmarks.front --write-docs
	$(BENCH_PYTHON) -m benchmarks.frames --write-docs
	$(PYTHON) -m benchmarks.frame_sizes --write-docs
	$(BENCH_PYTHON) -m benchmarks.simulation_speed
	$(PYTHON) -m benchmarks.bandits
	$(PYTHON) -m benchmarks.report_cost

bench-http: setup $(BENCH_STAMP) ## start, and durable requests a second beside rivals; wants wrk (1 hour)
	$(PYTHON) -m benchmarks.start_time --write-docs
	$(PYTHON) -m benchmarks.ingestion --write-docs
	$(PYTHON) -m benchmarks.ingestion_growth --largest 7 --write-docs

bench-commits: setup ## ways to make a row durable, on both databases (10 minutes)
	$(PYTHON) -m benchmarks.commit_ways --write-docs

bench-memory: setup ## memory under constant load (80 minutes)
	$(PYTHON) -m benchmarks.memory_soak --minutes 80 --rate 40 --write-docs

calibrate: setup ## how often claims are false, by simulation (30 minutes)
	$(PYTHON) -m benchmarks.calibrate
	$(PYTHON) -m benchmarks.null_loops
	$(PYTHON) -m benchmarks.belief_at_the_end

mutants: setup ## change each formula once and see a test fail (10 minutes)
	nice $(PYTHON) -P tests/mutations.py

$(RUNTIME_STAMP): requirements-runtime.lock | $(filter .uv/bin/uv,$(UV))
	test -x .venv-runtime/bin/python || $(UV) venv --quiet .venv-runtime
	VIRTUAL_ENV=.venv-runtime $(UV) pip sync --quiet --require-hashes requirements-runtime.lock
	touch $(RUNTIME_STAMP)

$(AUDIT_STAMP): requirements-audit.lock | $(filter .uv/bin/uv,$(UV))
	test -x .venv-audit/bin/python || $(UV) venv --quiet .venv-audit
	VIRTUAL_ENV=.venv-audit $(UV) pip sync --quiet --require-hashes requirements-audit.lock
	touch $(AUDIT_STAMP)

sbom: $(RUNTIME_STAMP) $(AUDIT_STAMP) ## list what a server runs, as CycloneDX in dist/sbom.cdx.json
	mkdir -p dist
	.venv-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		-o dist/sbom.cdx.json .venv-runtime

audit: $(AUDIT_STAMP) ## look for known vulnerabilities of what a server runs; needs advisories from the network
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-runtime.lock

lock: .uv/bin/uv ## compile the pins anew
	.uv/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.12 \
		--generate-hashes --no-header --quiet -o requirements.lock
	.uv/bin/uv pip compile pyproject.toml --group bench --universal --python-version 3.12 \
		--generate-hashes --no-header --quiet -o requirements-bench.lock
	.uv/bin/uv pip compile pyproject.toml --group image --constraint requirements.lock --universal --python-version 3.12 \
		--generate-hashes --no-header --quiet -o requirements-runtime.lock
	.uv/bin/uv pip compile --group audit --universal --python-version 3.12 \
		--generate-hashes --no-header --quiet -o requirements-audit.lock

clean: ## remove what setup made
	rm -rf .venv .venv-bench .venv-runtime .venv-audit .uv
