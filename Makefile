# Everything a contributor types. Each target sets up what it needs; `.ci/run` is test, lint and docs.

BIN := .venv/bin
READY := .venv/.ready
# Every distribution under plugins/ lives in one environment with the root package, editable.
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
TYPED := $(wildcard inferencesched tests docs bench examples)
BENCHES := $(sort $(wildcard bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs bench clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: $(READY) ## make .venv with the package, its extras and every plugin, editable

# The first of these that is 3.11 or newer and can make environments; name another with PYTHON=….
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then exec $$python -m venv .venv; fi; \
	done; \
	echo "No Python 3.11 or newer with venv found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1

$(READY): pyproject.toml $(PLUGINS:=/pyproject.toml) | $(BIN)/python
	@echo "Installing into .venv…"
	@# Each plugin twice, so that one may need another: pip looks for a name before it has seen it with an extra.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	  --editable '.[dev]' $(foreach plugin,$(PLUGINS),--editable './$(plugin)' --editable './$(plugin)[dev]')
	@touch $@

demo: $(READY) ## compare policies over HTTP, with a plot and a report
	$(BIN)/inferencesched demo

test: $(READY) ## run every test
	$(BIN)/python -m pytest -n auto

lint: $(READY) ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(TYPED)
	@set -e; for plugin in $(PLUGINS); do echo "mypy $$plugin"; \
	  (cd $$plugin && ../../$(BIN)/mypy --config-file ../../pyproject.toml src tests); done

docs: $(READY) ## build the documentation site into build/docs
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --nitpicky --quiet docs build/docs

bench: $(READY) ## run the benchmarks; PEERS=1 measures the peers too
	@set -e; for script in $(BENCHES); do echo "== $$script"; \
	  $(BIN)/python $$script $(if $(PEERS),$$(grep -qe --peers $$script && echo --peers)); done

clean: ## remove what was built and cached, but not .venv
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +
