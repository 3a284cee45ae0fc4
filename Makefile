# Everything runs from the checkout in .venv, which `make setup` builds. `make` lists the targets.

export THP_MEM_ALLOC_ENABLE ?= 1
export TOKENIZERS_PARALLELISM ?= false

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo setup test check clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-8s %s\n", $$1, $$2}'

demo: setup ## Set up, then run the whole loop on the embedded model (again: it goes on where it was)
	$(PYTHON) cli.py em --config configs/demo/em.yaml

setup: ## Install what the project needs into .venv, and the embedded model into models/
	@bash scripts/install.sh
	@$(PYTHON) -m promptcot.embedded models/smollm2-135m-instruct >/dev/null

test: ## Run the tests, a file on each core
	@bash scripts/install.sh --test
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: ## Lint, format, types, import contracts
	@bash scripts/install.sh --test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --config setup.cfg

clean: ## Remove runs and caches; .venv and models stay
	rm -rf runs lightning_logs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
