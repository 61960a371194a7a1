# Two commands are all that is needed: `make train` and `make test`. Each installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help train test test-slow demo embeddings evaluate reproduce lint clean

help:
	@echo "make train      train AIR with the default recipe"
	@echo "make test       run the fast tests, some six minutes"
	@echo "make test-slow  run the slow ones: kills, soaks, two workers, whole recipes, the wheel"
	@echo "make demo       draw digits and watch AIR attend to them"
	@echo "make embeddings export z_what for TensorBoard's projector"
	@echo "make evaluate   evaluate the model in model/"
	@echo "make reproduce PRESET=pyro   train a published recipe with several seeds on its own scenes"
	@echo "make lint       check style and types"

train: $(VENV)/installed
	$(RUN) training.py $(ARGS)

test: $(VENV)/installed
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-slow: $(VENV)/installed
	$(RUN) -m pytest -n 2 --dist loadfile -m slow $(ARGS)

demo: $(VENV)/installed
	$(RUN) demo.py $(ARGS)

embeddings: $(VENV)/installed
	$(RUN) embeddings.py $(ARGS)

evaluate: $(VENV)/installed
	$(RUN) evaluation.py model $(ARGS)

reproduce: $(VENV)/installed
	$(RUN) -m docs.reproduce $(PRESET) $(ARGS)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@
