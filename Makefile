# Two commands matter: `make demo` and `make test`. Both set everything up first; run again, that costs
# nothing. `make help` lists the rest.
SHELL := /bin/sh
export OMP_NUM_THREADS ?= 1
export DAGSTER_DISABLE_TELEMETRY := 1
# What is imported is compiled when it is first imported. All of the locked set at once took 110 s more of CPU.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo gpu study test quick lint ui bench base tools sam2 lock graph clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): environment/install.sh environment/main.txt environment/dvc.txt pyproject.toml
	@sh environment/install.sh
	@touch $@

demo: $(READY) ## set up, then run the whole graph on the embedded world and write the report
	@OMP_NUM_THREADS=1 $(BIN)/pixelis run --jobs 2

gpu: $(READY) ## a full-size policy on one GPU of 80 GB (PROFILE=gpu80x8: eight): says what it takes, then teaches, reinforces and measures it
	@$(BIN)/python -c "import torch, sys; sys.exit(torch.version.cuda is None)" || \
		.tools/uv/bin/uv pip install --python $(BIN)/python --reinstall-package torch torch==2.13.0
	@$(BIN)/python -m benchmarks.one_gpu --profile $(or $(PROFILE),gpu80)

study: $(READY) ## does the policy learn: hours; goes on after a stop, and writes docs/LEARNING.md
	@$(BIN)/pixelis study

test: lint ## set up, then every test
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=80

quick: lint ## the everyday part of the tests, under two minutes
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(READY) ## formatting, style, types and the floors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy && $(BIN)/lint-imports --no-cache >/dev/null || { $(BIN)/lint-imports --no-cache; exit 1; }

ui: $(READY) ## the Dagster UI on http://127.0.0.1:3000
	@DAGSTER_HOME=$(CURDIR) $(BIN)/dagster dev -h 127.0.0.1 -w workspace.yaml

bench: $(READY) ## measure, print a table and write benchmarks/out/*.json
	@$(BIN)/python -m benchmarks

base: $(READY) ## pre-train the nano policy again (a few hours; goes on after a stop)
	@$(BIN)/python -m training.base.train --steps 6000 --threads 1 --resume --out training/base/nano

graph: $(READY) ## write dvc.yaml and the generated pages of docs/ again from the code
	@$(BIN)/pixelis graph

tools: $(READY) ## measure how often each tool fails and write docs/TOOLS.md
	@$(BIN)/python -m evaluation.tool_audit --out docs/TOOLS.md

sam2: $(READY) ## the sam2 package in an environment of its own (for CUDA, several GB)
	@[ -x .tools/sam2/bin/python ] || .tools/uv/bin/uv venv --quiet --python $(BIN)/python .tools/sam2
	@.tools/uv/bin/uv pip install --python .tools/sam2/bin/python -r environment/sam2.in

lock: ## resolve the locked set again from pyproject.toml
	@sh environment/lock.sh

clean: ## remove what the commands above made, the environments included
	rm -rf .venv .tools .dagster .dagster.new .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* benchmarks/out
	git clean -fdxq data
	git checkout -q -- data
	git checkout -q -- dvc.lock 2>/dev/null || rm -f dvc.lock
	rm -f .dagster.lock
