.DEFAULT_GOAL := help
.PHONY: help install demo test tests lint format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/make-demo
CHECKPOINT := $(DEMO)/version_0/checkpoints/best.ckpt

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(VENV)/.installed ## create .venv and install everything into it

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install ## train on generated images, test, predict: about four minutes on two CPU cores
	rm -rf $(DEMO)
	$(BIN)/sivt demo-data $(DEMO)/data
	$(BIN)/sivt fit --config configs/demo.yaml --name make-demo --data.root $(DEMO)/data
	$(BIN)/sivt predict --ckpt_path $(CHECKPOINT) --data.predict_path $(DEMO)/data/gear/test --output $(DEMO)/predictions
	$(BIN)/sivt test --ckpt_path $(CHECKPOINT)
	@echo 'Look at these two pages in a browser: $(DEMO)/version_0/test/report.html, $(DEMO)/predictions/report.html'

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install ## lint and every test, at the same time
	@$(MAKE) --no-print-directory --jobs 2 lint tests

# Tests of one file share what they have trained and exported, so they stay in one process; tests/conftest.py says in
# which order.
tests:
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

clean: ## delete .venv, runs, predictions and caches
	rm -rf $(VENV) runs predictions build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
