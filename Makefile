# Eleven verbs; `make` alone lists them.
# A fresh checkout needs Python 3.11, 3.12 or 3.13 and nothing else: PYTHON=/path/to/python3 names another one.

PYTHON ?= python3
ARGS   ?=
READY  := .venv/.complete
BIN    := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help serve test check format lock containers bench soak docs clean
.DELETE_ON_ERROR:

help:  ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1   \2/p' Makefile

serve: $(READY)  ## start the service and the page, print both URLs; Ctrl-C stops both
	@$(BIN)/python scripts/serve.py $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k bundle" narrows them down
	@$(BIN)/pytest -n 2 $(ARGS)

check: $(READY)  ## formatting, lint and types, as CI runs them
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## format the code and apply the fixes that are safe
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY)  ## write requirements.lock from pyproject.toml; ARGS=--upgrade takes newer releases
	@$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --no-header --quiet $(ARGS) -o requirements.lock

containers: $(READY)  ## build both images, start them with compose, check and stop them
	@$(BIN)/python scripts/containers.py $(ARGS)

bench: $(READY)  ## measure the service beside its peers, and write benchmarks/RESULTS.md; ARGS=--quick takes about 5 minutes
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY)  ## load the service while its processes are killed and its models change; ARGS="--minutes 60"
	@$(BIN)/python -m benchmarks.soak $(ARGS)

docs: $(READY)  ## build the documentation into site/, without network
	@$(BIN)/python scripts/docs.py

clean:  ## delete the environment and the caches; models/ and runs/ stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache build dist site *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted build is taken up again by the next `make`, from uv's cache.
$(READY): pyproject.toml requirements.lock scripts/environment.py
	@$(PYTHON) scripts/environment.py
	@touch $@
