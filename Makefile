# Needs GNU make and Python 3.11 or newer; everything else is installed into $(VENV).

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$python; break; fi; done)
LAB_ARGS ?=
# The notebook that `make lab` opens; the others stand beside it, in JupyterLab's list of files.
FIRST ?= 00_lab.ipynb
PYTEST_ARGS ?=
# Test files run side by side in this many processes; one core each is what they need. tests/conftest.py orders them.
WORKERS ?= 2
# Per cent of vislab's lines that all tests run, and may not fall below.
FLOOR ?= 98
# TRIED=1 installs the very versions that the tests have run with, instead of the newest that pyproject.toml allows.
TRIED ?=

PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.vislab-installed$(if $(TRIED),-tried)
INSTALLING := $(VENV)/.vislab-installing
BENCH_INSTALLED := $(VENV)/.vislab-bench-installed
BIOME_VERSION := 2.6.8
BIOME := $(VENV)/biome-$(BIOME_VERSION)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
TRIED_VERSIONS := .ci/tried.txt
PYTEST := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
COVERAGE := build/coverage.json
# JupyterLab refuses to run as root unless told; in a container there is often no other user.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# $(call biome,command): lints the JavaScript of the Lab and of the class page, for which only who works on it needs npm; CI has to.
define biome
@if [ -x $(BIOME)/node_modules/.bin/biome ] || { command -v npm >/dev/null && npm install --prefix $(BIOME) --no-save \
		--no-audit --no-fund --loglevel=error @biomejs/biome@$(BIOME_VERSION); }; then \
	$(BIOME)/node_modules/.bin/biome $(1) || exit 1; \
elif [ "$$CI" = true ]; then echo "no Biome, and no npm that could install it: apt install npm" >&2; exit 1; \
else echo "The JavaScript was not linted: that takes npm, and once the network."; fi
endef

export PYTHONUTF8 := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A part of the tests is not measured. SlipCover rewrites each line once, where a tracer is asked every time: the tests
# are as quick as without. What the processes side by side ran it puts together at the end, so the floor comes after.
MEASURED := $(if $(PYTEST_ARGS),,-m slipcover --source vislab --json --out $(COVERAGE))

.DEFAULT_GOAL := help
.PHONY: help lab test test-fast lint format docs kernel tried bench soak clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

lab: $(INSTALLED) ## install what is needed and open JupyterLab at 00_lab.ipynb (LAB_ARGS="--no-browser …")
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m jupyterlab --notebook-dir=notebooks \
		--LabApp.default_url=/lab/tree/$(FIRST) $(ALLOW_ROOT) $(LAB_ARGS)

test: lint ## install what is needed, lint, run every test and notebook, and measure what they cover (PYTEST_ARGS="-k grid …")
	@mkdir -p $(dir $(COVERAGE))
	$(PY) $(MEASURED) $(PYTEST) $(if $(MEASURED),--durations 25 -m "not unmeasured") --nbmake tests vislab $(wildcard notebooks) $(PYTEST_ARGS)
	$(if $(MEASURED),$(PY) -m pytest -m unmeasured tests)
	$(if $(MEASURED),$(PY) -m slipcover --merge $(COVERAGE) --out $(COVERAGE) --skip-covered --fail-under $(FLOOR))

test-fast: $(INSTALLED) ## the daily round, under two minutes: no browser, no notebooks, no cluster, nothing that takes seconds
	$(PY) $(PYTEST) -m "not browser and not slow and not ray" tests vislab $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff, mypy, Biome where there is npm, and notebooks without outputs
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(call biome,check --error-on-warnings)
	$(if $(NOTEBOOKS),$(PY) -m nbstripout --verify $(NOTEBOOKS))

format: $(INSTALLED) ## mend what lint can mend
	$(PY) -m ruff check --fix
	$(PY) -m ruff format
	$(call biome,check --write)
	$(if $(NOTEBOOKS),$(PY) -m nbstripout $(NOTEBOOKS))

docs: $(INSTALLED) ## the API reference, from the docstrings of the public names, into build/docs
	$(PY) -m pdoc vislab '!vislab\..+' --docformat markdown --no-show-source --output-directory build/docs

kernel: $(INSTALLED) ## compile the class page's vit.c into the vit.wasm that is committed beside it
	$(PY) tests/kernel.py

tried: $(INSTALLED) ## write down the versions that are installed, for TRIED=1
	$(PY) .ci/tried.py > $(TRIED_VERSIONS).part
	mv $(TRIED_VERSIONS).part $(TRIED_VERSIONS)

bench: $(BENCH_INSTALLED) ## time and memory of the engine against the plain forward pass, how the Lab feels, and the class page
	@set -e; for script in $(wildcard tests/bench/bench_*.py); do $(PY) $$script; done

soak: $(INSTALLED) ## 10,000 interactions with the Lab in a browser, and what its page and its kernel hold
	$(PY) tests/bench/bench_lab.py --soak 10000

clean: ## remove caches and build products (the environment stays; it is .venv)
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find vislab tests assets -name __pycache__ -type d -prune -exec rm -rf {} +

# The first marker stands while the install runs and becomes the second at its end: an install that was interrupted
# left the first, and is begun anew. Old versions of pip fail on metadata of today, so pip comes first.
$(INSTALLED): pyproject.toml $(if $(TRIED),$(TRIED_VERSIONS))
	@if [ -z "$(PYTHON)" ]; then \
		echo "vislab needs Python 3.11 or newer; found $$(python3 --version 2>/dev/null || echo no python3)." \
			"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "vislab needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." \
			"Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$(PYTHON) cannot make environments: its modules venv and ensurepip are missing." \
			"On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi
	@if [ -e $(INSTALLING) ]; then \
		echo "An earlier install did not finish: beginning anew."; "$(PYTHON)" -m venv --clear $(VENV); \
	elif [ ! -e $@ ]; then "$(PYTHON)" -m venv $(VENV); fi
	@rm -f $@ && touch $(INSTALLING)
	@echo "Installing into $(VENV): up to 2.9 GB to fetch and 6.8 GB on the disk (torch with CUDA; README.md says how to" \
		"take less): eight minutes of fetching at 50 Mbit/s, forty at 10. Next time it is there."
	$(PY) -m pip install --upgrade pip
	$(PY) -m pip install $(if $(TRIED),-c $(TRIED_VERSIONS)) -e '.[test]'
	@$(PY) -c 'import cv2' || { echo "OpenCV does not load: it needs the system's libGL." \
		"On Debian and Ubuntu: apt install libgl1 libglib2.0-0" >&2; exit 1; }
	@mv $(INSTALLING) $@ && touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	$(PY) -m pip install -e '.[bench]'
	@touch $@
