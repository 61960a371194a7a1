# Two commands are all that is needed: `make train` and `make test`. Each installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help train test evaluate lint clean

help:
	@echo "make train      make the data and train AIR with the default recipe"
	@echo "make test       run the tests"
	@echo "make evaluate   judge the model in model/"
	@echo "make lint       check style"

train: $(VENV)/installed
	$(RUN) training.py $(ARGS)

test: $(VENV)/installed
	$(RUN) -m pytest $(ARGS)

evaluate: $(VENV)/installed
	$(RUN) evaluation.py model $(ARGS)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@
