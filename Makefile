# `make demo` and `make test` do all their own set-up; Python 3.11 or newer and make are enough.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench brokers install-brokers schema clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]' \
		| sed -un 's/^Collecting \([^ ]*\).*/  \1/p'
	@touch $@

demo: $(READY) ## Run the order pipeline; PYFLY_MESSAGING__PROVIDER=kafka or rabbitmq switches the broker
	@$(BIN)/python docs/examples/order_pipeline.py

test: $(READY) ## Run every test, on real brokers that it installs and starts itself; shows coverage
	@# Not by a plugin of pytest: ours is loaded before it, and so would be most of the package.
	@$(BIN)/python -m coverage run -m pytest $(PYTEST_ARGS) && $(BIN)/python -m coverage report

check: $(READY) ## Format, lint, types, dependency direction, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -m 'not kafka and not rabbitmq and not slow' $(PYTEST_ARGS)

format: $(READY) ## Rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## Measure against the raw clients and the peers, as ratios
	@$(BIN)/python -m tests.benchmarks

brokers: $(READY) ## Run a Kafka and a RabbitMQ on their default ports until Ctrl-C
	@$(BIN)/python -m tests.brokers --default-ports

install-brokers: $(READY) ## Make sure that both brokers can be started
	@$(BIN)/python -m tests.brokers --install

schema: $(READY) ## Regenerate what is made from the settings and the kit: reference, schema, pages
	@$(BIN)/pyfly-messaging config init --force
	@$(BIN)/python -c 'from pyfly_messaging.settings.diagnostics.codes import render_codes as r; print(r(), end="")' > docs/configuration-errors.md
	@$(BIN)/python -m tests.testing.guarantees

clean: ## Remove what make made
	rm -rf $(VENV) .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
