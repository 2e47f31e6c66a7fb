# What a person types and what CI runs are the same: .ci/run calls `make test` and nothing else.
# Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
PORT ?= 8084
UV = .venv/bin/python -m uv
LOCK = .ci/requirements.lock
STAMP = .venv/.installed
SDKS = tests/clients/node_modules/.package-lock.json

# $(call timed,NAME,COMMAND): run it, and say how long it took.
timed = @echo "== $(1)"; start=$$(date +%s); $(2) || exit 1; echo "== $(1): $$(($$(date +%s) - start)) s"

.DEFAULT_GOAL := help
.PHONY: help install run test system-packages sdks format bench crash lock clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with all that running and testing need

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make install PYTHON=python3.12"; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(UV) --version >/dev/null 2>&1 || .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(UV) pip sync --quiet --python .venv/bin/python --require-hashes $(LOCK)
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Start it in dev mode on PORT (8084), data in .dev-data/
	@exec .venv/bin/datafly-lite serve --dev --data-dir .dev-data --port $(PORT)

system-packages: ## Chromium, strace and Node, which the tests use and pip cannot bring
	@.ci/system-packages

sdks: $(SDKS) ## The SDKs from npm that the tests run against the gateway; nothing where there is no npm

$(SDKS): tests/clients/package-lock.json | system-packages
	@! command -v npm >/dev/null || npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --loglevel=error

test: install system-packages sdks ## Every check that CI runs
	$(call timed,format,.venv/bin/ruff format --check .)
	$(call timed,lint,.venv/bin/ruff check .)
	$(call timed,types,.venv/bin/mypy)
	$(call timed,tests,.venv/bin/pytest --durations=15)

format: install ## Format and mend what ruff can mend
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: install ## Events a second, latency, CPU and memory, beside a null handler
	.venv/bin/python tests/bench.py

crash: install ## Two hundred rounds of load, kill -9 and restart; then fifty with consent, bots, scripts and failures
	.venv/bin/python tests/crash.py --rounds 200
	.venv/bin/python tests/crash.py --mix --rounds 50

lock: install ## Write .ci/requirements.lock anew from pyproject.toml (LOCK_FLAGS=--upgrade for newer releases)
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(LOCK_FLAGS) \
		--output-file $(LOCK) pyproject.toml

clean: ## Remove what was built and .venv; the data in .dev-data/ stays
	rm -rf .venv build dist tests/clients/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
