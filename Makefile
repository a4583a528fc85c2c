# Everything here works on a machine with nothing but Python 3.11 or newer, as any user.
# PYTHON names another Python: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo run test test-browser screenshots chaos fuzz bench bench-full lint lock clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/.ready  ## send real broadcasts to a simulated WhatsApp and show what became of them
	@$(BIN)/python manage.py demo

run: .venv/.ready  ## run everything until Ctrl-C and print where to sign in
	@$(BIN)/python manage.py run

# Tests of whole processes, and of how long something takes, have the machine to themselves; the others share its cores.
ALONE := tests/scenarios tests/test_processes.py tests/test_beat.py tests/lib/test_outward_http.py tests/lib/test_pacing.py

test: .venv/.ready  ## run all tests on real PostgreSQL and Redis
	@failed=0; \
	$(BIN)/python -m pytest -q $(ALONE) || failed=1; \
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadscope $(ALONE:%=--ignore=%) || failed=1; \
	exit $$failed

test-browser: .venv/.ready-browser  ## use the whole product in a real Chromium, the one found or named in CHROMIUM
	$(BIN)/python -m pytest -q tests/browser $(ARGS)

screenshots: .venv/.ready-browser  ## take the README's pictures anew, of a store with the sample data
	$(BIN)/python -m pytest -q tests/browser/screenshots.py

chaos: .venv/.ready  ## kill parts of a working Kaanha for nine minutes and count what is wrong (ARGS="--seed 7 --minutes 3")
	@$(BIN)/python -m tests.scenarios.chaos $(ARGS)

fuzz: .venv/.ready  ## requests and sequences by chance, new ones each time (FUZZ_EXAMPLES=100 for each, FUZZ_SCENES=100)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-100} FUZZ_SCENES=$${FUZZ_SCENES:-100} \
		$(BIN)/python -m pytest -q tests/test_fuzzing.py tests/sequences/test_properties.py

bench: .venv/.ready  ## measure Kaanha against the least that would do the same (PARTS="launch preview" for a few)
	@$(BIN)/python -m benchmarks.run $(PARTS)

bench-full: .venv/.ready  ## the same with 1,000,000 sends and a ledger of 10,000,000 rows
	@$(BIN)/python -m benchmarks.run --scale full $(PARTS)

lint: .venv/.ready  ## check style, types, migrations, and dependencies for known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python manage.py check
	$(BIN)/python -m kaanha.servers -- $(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python -m kaanha.dependency_audit

lock:  ## choose the newest allowed versions of all dependencies (needs uv)
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--extra local --extra dev pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--constraint requirements-dev.lock pyproject.toml -o requirements.lock
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--constraint requirements-dev.lock --group pyproject.toml:browser -o requirements-browser.lock

clean:  ## remove .venv, .data with its databases, and caches
	$(PYTHON) -m kaanha.servers --remove
	rm -rf .venv .data .mypy_cache .ruff_cache .pytest_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file stands for a complete installation, so that an interrupted one is made again.
.venv/.ready: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Kaanha needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python lacks its venv module. On Debian and Ubuntu: apt install python3-venv"; exit 2; } >&2
	@echo "Installing the dependencies into .venv …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.ready-browser: .venv/.ready requirements-browser.lock
	@echo "Installing Playwright into .venv …"
	@$(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --require-hashes -r requirements-browser.lock
	@touch $@
