# Every target does its own set-up; Python 3.11 or newer and make are enough.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint check format bench matrix brokers install-brokers generate clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is in the venv: only pip; what the demo needs, with the client of its broker; everything.
CLIENT := $(filter kafka rabbitmq,$(PYFLY_MESSAGING__PROVIDER))
CREATED := $(VENV)/.created
DEMO := $(VENV)/.demo$(CLIENT:%=-%)
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install
NEEDS := import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *(need for extra in sys.argv[1:] for need in p["optional-dependencies"][extra]), sep="\n")
COLLECTED := sed -un 's/^Collecting \([^ ]*\).*/  \1/p'
PYTEST_ARGS ?=
NOX_ARGS ?=

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO): pyproject.toml | $(CREATED)
	@echo "Installing what the library needs in $(VENV) (once, some seconds) ..."
	@# Not the library: that would take a build, with tools of its own, and as long again.
	@$(BIN)/python -c '$(NEEDS)' $(CLIENT) | $(PIP) --requirement /dev/stdin | $(COLLECTED)
	@touch $@

$(READY): pyproject.toml | $(CREATED)
	@echo "Installing the library and the development tools in $(VENV) (once, about a minute) ..."
	@$(PIP) --quiet --upgrade 'pip>=25.1' # the first that knows --group
	@$(PIP) --editable '.[all]' --group dev | $(COLLECTED)
	@touch $(VENV)/.demo{,-kafka,-rabbitmq} $@

demo: $(DEMO) ## Run the order pipeline; PYFLY_MESSAGING__PROVIDER=kafka or rabbitmq switches the broker
	@PYTHONPATH=. $(BIN)/python docs/examples/order_pipeline.py

test: $(READY) ## Run every test but long chaos, on real brokers that it installs and starts itself
	@$(BIN)/python -m tests.run -m 'not chaos' $(PYTEST_ARGS)

chaos: $(READY) ## Run storms, fuzzing and outages for long, and what the brokers of the tests can do
	@PYFLY_STORM_CALLS=$${PYFLY_STORM_CALLS:-300} FUZZ_SECONDS=$${FUZZ_SECONDS:-300} \
		$(BIN)/python -m tests.run --no-coverage $(PYTEST_ARGS) tests/chaos tests/integration/test_brokers.py

lint: $(READY) ## Format, lint, dependency direction, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

check: lint ## Lint and the fast tests
	@$(BIN)/python -m pytest -q -m 'not kafka and not rabbitmq and not slow' $(PYTEST_ARGS)

matrix: $(READY) ## Fast tests and demo on every CPython from 3.11 to 3.14 that is installed
	@$(BIN)/nox --session matrix $(NOX_ARGS) -- $(PYTEST_ARGS)

format: $(READY) ## Rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## Measure against the raw clients and the peers, as ratios
	@$(BIN)/python -m tests.benchmarks

brokers: $(READY) ## Run a Kafka and a RabbitMQ on their default ports until Ctrl-C
	@$(BIN)/python -m tests.brokers --default-ports

install-brokers: $(READY) ## Make sure that both brokers can be started
	@$(BIN)/python -m tests.brokers --install

generate: $(READY) ## Write again what is made from settings, kit and docstrings: reference, schema, pages
	@$(BIN)/pyfly-messaging config init --force
	@$(BIN)/python -c 'from pyfly_messaging.settings.diagnostics.codes import render_codes as r; print(r(), end="")' > docs/configuration-errors.md
	@$(BIN)/python -m tests.testing.guarantees
	@$(BIN)/python -m tests.architecture

clean: ## Remove what make made
	rm -rf $(VENV) .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .nox build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
