# make quickstart   installs everything into .venv, then goes from documents to a cited answer
#                   (ARGS='--set cluster.allow_other_ray=true' hands options on)
# make test         installs the test tools and runs the tests (minutes)
# make test-pure   only the pure tests: no ray, no model, no browser (seconds)
# make test-ci      those of the slow tests that CI runs: one for each way a job, a service or a cluster may break
# make test-full    the slow tests too (kills, autoscaling; tens of minutes)
# make check        lint, types, architecture
# make bench        latency of the running service
# make vendor       fetches the chat page's JavaScript libraries again (needs npm; only to change their versions)
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A folder or index of wheels given for pip serves uv too (uv does not read pip's variables).
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Without such a folder uv takes torch from PyTorch's index for this machine: CPU build where there is no GPU.
TORCH := $(if $(UV_FIND_LINKS),,--torch-backend=auto)
# A machine with an NVIDIA GPU gets the GPU build of FAISS in place of the CPU one.
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo ,gpu)
# Compiled once here instead of at every start of a process, wherever Python may not write what it compiled.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt $(TORCH) --override name-overrides.txt $(if $(GPU),--override gpu-overrides.txt)

.PHONY: quickstart install install-dev preflight test test-pure test-slow test-ci test-full check bench lock vendor clean

quickstart: install
	@$(BIN)/plinth quickstart $(ARGS)

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

preflight:
	@sh preflight.sh $(PYTHON)

$(VENV)/.uv: constraints.txt
	@sh preflight.sh $(PYTHON)
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

$(VENV)/.installed: $(VENV)/.uv pyproject.toml constraints.txt
	@echo "installing packages into $(VENV)"
	@$(INSTALL) --editable '.[names$(GPU)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing test tools into $(VENV)"
	@DS_BUILD_OPS=0 $(INSTALL) --editable '.[dev,aws,deepspeed,names,postgres,smollm2$(GPU)]'
	@touch $@

# Pure tests on all cores, then those that start processes or clusters, a few files at a time.
# pytest's exit code 5 (nothing selected) is fine: PYTEST_ARGS may select tests of one kind only.
PYTEST = $(BIN)/python -m pytest -q
FILES_AT_ONCE := $(shell [ $$(nproc) -gt 2 ] && echo 3 || echo 2)
PURE := not live and not process and not slow

test: install-dev
	@$(PYTEST) -n auto -m "$(PURE)" $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@$(PYTEST) -n $(FILES_AT_ONCE) --dist loadfile -m "(process or live) and not slow" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-pure: install-dev
	@$(PYTEST) -n auto -m "$(PURE)" $(PYTEST_ARGS)

test-slow: install-dev
	@$(PYTEST) -m slow $(PYTEST_ARGS)

test-ci: install-dev
	@$(PYTEST) -n $(FILES_AT_ONCE) --dist loadfile -m "slow and ci" $(PYTEST_ARGS)

test-full: test test-slow

check: install-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: install
	@$(BIN)/plinth bench serve

# The chat page's two libraries, at the versions in its package.json. What npm brings is committed: users need no npm.
CONSOLE := serve_apps/console
vendor:
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; cp $(CONSOLE)/package.json "$$folder"; \
	 npm install --prefix "$$folder" --ignore-scripts --omit=optional --no-audit --no-fund --no-package-lock --loglevel=error; \
	 mkdir -p $(CONSOLE)/vendor; cd "$$folder/node_modules"; \
	 to="$(CURDIR)/$(CONSOLE)/vendor"; cp marked/lib/marked.esm.js dompurify/dist/purify.es.mjs "$$to"; \
	 for name in marked dompurify; do cp "$$name/LICENSE" "$$to/$$name.LICENSE"; done; \
	 cd "$$to"; sha256sum *js *.LICENSE > SHA256SUMS; cat SHA256SUMS

clean:
	rm -rf $(VENV) build *.egg-info

lock: install-dev
	@{ echo "# Every version this project was tested with, transitive ones included (Python 3.11 and 3.12, Linux)."; \
	   echo "# Made by: make lock"; \
	   $(BIN)/uv pip freeze --quiet --python $(BIN)/python | grep -v -E '^-e|^pip==|file://' \
	   | sed 's/+cpu//; s/^faiss-cpu==\(.*\)/&\nfaiss-gpu==\1/'; } > constraints.txt
