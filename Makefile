# make setup | demo | test | lint | bench | experiments. Each does its own set-up; a second run is quick.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint bench experiments clean
setup: $(STAMP)

# uv is fast; pip is the fallback. torch: a local build where PIP_FIND_LINKS has one, else the
# build for this machine's GPU, or the small CPU one (uv's torch backend "auto").
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv \
	  && UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(if $(PIP_FIND_LINKS),,UV_TORCH_BACKEND=auto) \
	     $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/s2cd demo demo

test: setup
	$(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -s -p no:xdist

# Leave-places-out comparison of recipes; hours, resumable: stop it, and the same command goes on.
DATA ?= ../shared/data/oscd
experiments: setup
	$(BIN)/python examples/experiments.py $(DATA) runs/experiments

clean:
	rm -rf .venv demo
