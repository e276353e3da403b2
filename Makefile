.PHONY: help setup check test test-full mutants ci

MUTANTS ?= hpo.run.*

help: ## print this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## create a virtual environment in .venv with the pinned versions
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]'

check: ## check lint, types and import layers
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

test: ## run the tests of every commit
	.venv/bin/python -m pytest

test-full: ## run the slow tests too; the MLflow UI needs the extra ui-test, Chromium and its driver
	.venv/bin/python -m pytest -m ''

mutants: ## mutation tests: make mutants MUTANTS='hpo.run.limits* hpo.evaluation.guard*'
	PYTHONPATH= .venv/bin/python -m mutmut run $(foreach name,$(MUTANTS),'$(name)')
	.venv/bin/python -m mutmut results | sed '/: not checked/d'

ci: ## run everything that decides whether a change lands
	.ci/run
