# One verb each. Everything is installed into .venv from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
EXTRAS := apprise,bitsandbytes,comet,lycoris,mlflow,parquet,quanto,ray,s3,swanlab,torchao,trackio

.PHONY: demo test test-all walls check wheel fmt clean

demo: $(INSTALLED)  ## the main job on an embedded default: a tiny training, watched live
	$(BIN)/clipwatch demo

test: $(INSTALLED)  ## what a change usually breaks, in minutes
	$(BIN)/pytest -m quick

test-all: test  ## all tests: after those of `make test` the rest, and properties in full
	$(BIN)/pytest -m rest --hypothesis-profile=full

walls: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: walls test  ## what a change must pass: style, types, walls between rooms, tests

wheel: $(INSTALLED)  ## what CI does, too: build it, install it alone, run the demo from it
	$(BIN)/python scripts/try_wheel.py

fmt: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo-run .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --no-compile: what is imported is compiled then, most never is
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing clipwatch and what it needs into .venv: torch, diffusers, the tests' tools."
	@echo "That is some gigabytes and takes minutes, once."
	$(PYTHON) -m venv .venv
	@while sleep 9 >/dev/null 2>&1; do echo "... still installing, $$(du -sh .venv | cut -f1) so far"; done & \
	beat=$$!; trap "kill $$beat" EXIT; trap "exit 130" INT TERM HUP; \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip && \
	$(BIN)/python -m pip install --no-compile --constraint constraints.txt --group dev --editable '.[$(EXTRAS)]'
	@touch $@
	@echo "Installed."

