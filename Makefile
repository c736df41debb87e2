# make demo, make test: each does all the set-up that it needs. make help: the rest.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Empty: the one named last, or the default of tools/install.py.
TORCH ?=
PY := .venv/bin/python
# Two test processes with one thread each: faster than one process with two.
TEST_JOBS ?= 2

.PHONY: help setup demo demo-mots test table bench lint format clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    train on generated clips from boxes alone, show scores and pictures'
	@echo 'make demo-mots   the same with tracks, scored as BDD100K scores them'
	@echo 'make test    lint, type check, the whole test suite'
	@echo 'make table   the table of the README: six rows, three seeds each (hours)'
	@echo 'make bench   the tables of speed of the README (9 minutes on 2 idle cores)'
	@echo 'make setup   only the environment; source .venv/bin/activate enters it'
	@echo 'make lint    ruff and mypy; make format mends the layout'
	@echo 'make clean   remove .venv and caches; work_dirs/ and data/ stay'
	@echo
	@echo 'PYTHON=python3.11                     the interpreter that .venv is made with'
	@echo 'TORCH="torch==X --index-url URL"      another torch, remembered: a CUDA build, say'

setup:
	@$(if $(PYTHON),,echo 'no python3 found: apt-get install python3.11 python3.11-venv python3.11-dev' && exit 1;) \
	$(PYTHON) tools/install.py --torch '$(TORCH)'

demo: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) tools/mini_benchmark.py demo

demo-mots: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) tools/mini_benchmark.py demo --model qdtrack-mots

table: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) tools/mini_benchmark.py table

bench: setup
	$(PY) tools/benchmarks/run.py

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: lint
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_JOBS) --dist loadfile

clean:
	rm -rf .venv mmmaskfree/.mim build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './work_dirs/*' -prune -exec rm -rf {} +
