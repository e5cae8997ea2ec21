# make demo | make test | make lint: each makes the environment first, and again after pyproject.toml changed.
# make model DATA=FOLDER measures the shipped model for its card; the same command goes on where it was stopped.
# PYTHON=python3.12 chooses the interpreter; VENV=dir an environment of your own that is already complete.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 7860
DATA ?=

.PHONY: help install demo test lint model clean

help:
	@echo "make demo    the image Q&A page at http://127.0.0.1:$(PORT)"
	@echo "make test    all tests"
	@echo "make lint    ruff and mypy"
	@echo "make model   every figure of the shipped model: docs/card, its card, the goals in README.md; DATA=folder of the packs"
	@echo "make clean   remove $(VENV)"

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 || true); Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/vlm demo --port $(PORT)

test: $(STAMP)
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

model: $(STAMP)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/python -m pip install --quiet 'matplotlib>=3.10' || \
	  echo "no matplotlib: the charts that it would draw are left out" >&2
	$(BIN)/vlm card --out docs/card --markdown vlm/weights/README.md --readme README.md $(if $(DATA),--data $(DATA))

clean:
	rm -rf $(VENV)
