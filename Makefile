.PHONY: help setup check test test-full mutants ci

MUTANTS ?= hpo.run.*

help: ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## a virtual environment in .venv with the pinned versions
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]'

check: ## lint, types, layers
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

test: ## the tests of every commit
	.venv/bin/python -m pytest

test-full: ## the slow ones too: the MLflow UI in a browser needs the extra ui-test, Chromium and its driver
	.venv/bin/python -m pytest -m ''

mutants: ## mutation tests: make mutants MUTANTS='hpo.run.limits* hpo.evaluation.guard*'
	PYTHONPATH= .venv/bin/python -m mutmut run $(foreach name,$(MUTANTS),'$(name)')
	.venv/bin/python -m mutmut results | sed '/: not checked/d'

ci: ## what decides whether a change lands
	.ci/run
