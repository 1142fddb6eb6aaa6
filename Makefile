# Two commands matter: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
HOME_DIR ?= var
OUT ?= dist
SERIAL ?= 1
TESTS ?= tests
BIN := .venv/bin
# Tests write into the cache folder, each checkout and each choice of tests into a place of its own.
CACHE := $(or $(APPLIANCE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/appliance)
TEST_ROOT := $(CACHE)/tests/$(shell (pwd; echo "$(TESTS)") | cksum | cut -d ' ' -f 1)
PYTEST := $(BIN)/python -m pytest --basetemp $(TEST_ROOT)
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header --no-emit-package llama-cpp-python -q

# Programs start in half the time where their bytecode is kept, and the tests start thousands.
unexport PYTHONDONTWRITEBYTECODE

CLIENTS := $(shell sed -n 's/^client-\([a-z0-9-]*\) = .*/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup run test suite suite-offline check format bench pictures llama-server llama-native cuda test-gpu test-hostile test-offline wheelhouse clients bundle openapi lock clean

##@ Everyday
setup: ## Make .venv from the lock and fetch the starter model (idempotent)
	@$(PYTHON) deploy/bootstrap

run: ## Set up, then serve the starter model on 127.0.0.1:8080, the console on 8090
	@$(PYTHON) deploy/bootstrap --home $(HOME_DIR)
	@$(BIN)/appliance init --home $(HOME_DIR)
	@exec $(BIN)/appliance serve --home $(HOME_DIR) --kiosk-key make-run --console-accounts --log-file $(HOME_DIR)/serve.log

test: setup check wheelhouse clients suite ## Set up, check, then the whole suite, without network (TESTS=…: a part)

##@ Craft
suite: ## The tests alone, as `make test` runs them behind set-up and checks (TESTS=…: a part)
	@mkdir -p $(dir $(TEST_ROOT))
	@$(PYTEST) --ignore tests/offline --ignore tests/gpu $(TESTS)

check: setup ## Lint, format, types, layers
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .lint-imports.log 2>&1 || { cat .lint-imports.log; exit 1; }
	@rm -f .lint-imports.log

format: setup ## Let ruff mend what it can
	@$(BIN)/ruff check -q --fix . || true
	@$(BIN)/ruff format -q .

bench: setup ## This appliance beside its peers in one run, into tests/bench/RESULTS.md (ONLY=kiosk: a part)
	@$(PYTHON) deploy/bootstrap --bench
	@$(BIN)/python -m tests.bench $(ONLY)

pictures: setup ## The guides' pictures anew, from the tests of the console's pages (FILES=…: some of them)
	@$(BIN)/python -m tests.browser.pictures $(FILES)

llama-server: ## Build the bench's peer from the vendored source (optional, once, into the cache)
	@$(PYTHON) deploy/bootstrap --llama-server

llama-native: ## Build llama.cpp for this processor alone, for `make bench ONLY=variants` (optional)
	@$(PYTHON) deploy/bootstrap --llama-native

cuda: setup ## Build the CUDA backend into the cache and .venv (optional, about 2 hours; goes on where it was)
	@$(BIN)/python deploy/bootstrap/cuda.py

test-gpu: setup ## What needs an NVIDIA GPU: skipped with its reason where there is none
	@mkdir -p $(dir $(TEST_ROOT))
	@$(PYTEST)-gpu -m gpu tests/gpu

test-hostile: setup ## More than 400 hostile model files, each on the whole way of an import (three minutes)
	@$(BIN)/python -m tests.tools.hostile

test-offline: setup wheelhouse suite-offline ## Whole lives in bare Debian 12 and 13 without a network, from a signed bundle (as root)

suite-offline: ## Those tests alone (as root)
	@mkdir -p $(dir $(TEST_ROOT))
	@$(BIN)/python -m tests.offline.roots
	@$(PYTEST)-offline tests/offline

wheelhouse: setup ## Fetch what a bundle packs, once, into the cache
	@$(BIN)/python deploy/bootstrap/bundle.py

clients: setup ## Environments for the clients that the contract tests run, once, into the cache
	@$(BIN)/python deploy/bootstrap/clients.py

bundle: setup ## An unsigned bundle of this commit with the starter model (OUT, SERIAL, RELEASE, FLAGS)
	@$(BIN)/python deploy/bootstrap/bundle.py --out $(OUT) --serial $(SERIAL) $(if $(RELEASE),--release $(RELEASE)) $(FLAGS)

openapi: setup ## The document of the API anew, into deploy/openapi.json
	@$(BIN)/python -c 'from appliance.api import app, openapi; \
	  print(openapi.text_of(openapi.document(app.create_routes())), end="")' > deploy/openapi.json.new
	@mv deploy/openapi.json.new deploy/openapi.json

lock: setup ## Resolve the dependencies anew, with hashes
	@$(BIN)/python -m pip install -q uv
	@$(LOCK) pyproject.toml -o deploy/lock/runtime.txt
	@$(LOCK) pyproject.toml --group dev -c deploy/lock/runtime.txt -o deploy/lock/dev.txt
	@$(LOCK) --group pyproject.toml:build -o deploy/lock/build.txt
	@$(LOCK) --group pyproject.toml:installer -o deploy/lock/installer.txt
	@$(LOCK) --no-emit-package nvidia-cuda-nvrtc --group pyproject.toml:cuda-runtime -o deploy/lock/cuda-runtime.txt
	@$(LOCK) -c deploy/lock/cuda-runtime.txt --group pyproject.toml:cuda -o deploy/lock/cuda.txt
	@$(LOCK) --group pyproject.toml:bench -c deploy/lock/runtime.txt -o deploy/lock/bench.txt
	@set -e; for each in $(CLIENTS); do \
	  $(LOCK) --group pyproject.toml:client-$$each -o deploy/lock/clients/$$each.txt; done
	@cd deploy/lock/clients/js && npm install --silent --package-lock-only --ignore-scripts \
	  --omit-lockfile-registry-resolved

clean: ## Remove what set-up and runs made here; the cache stays
	@rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@echo "var/ holds a home with its record: remove it yourself if you mean it"

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
