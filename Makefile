# Needs Python >= 3.11 and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell cat constraints.txt)
# Most tests wait for processes, sockets and time, so more of them than cores get on together.
PARALLEL ?= -n 4

.PHONY: demo test test-vendors check coverage wheel-test soak bench bench-peers bench-trainer bench-gpu bench-trackers docs site format clean help

help:
	@echo "make demo         train a small language model and open-able report in 2 to 4 minutes"
	@echo "make test         the tests"
	@echo "make test-vendors beside the real clients, servers and trainers, installed apart"
	@echo "make check        linters, type checkers, import contracts"
	@echo "make coverage     the tests with branch coverage"
	@echo "make wheel-test   build the wheel and try it in an empty folder"
	@echo "make soak         the long counts: random SIGKILLs, many seeds"
	@echo "make bench        publish latency, step cost, an outage, many ranks"
	@echo "                  (both with a real MLflow server if HOTLOOP_MLFLOW_PYTHON names its Python)"
	@echo "make bench-peers  publish latency beside other trackers' clients, TensorBoard's writers"
	@echo "make bench-trainer  a training step beside Transformers' and Lightning's trainers"
	@echo "make bench-gpu    the same on a GPU, where there is one"
	@echo "make bench-trackers what metrics cost with our sinks and with the services' own clients"
	@echo "make docs         what docs/sinks/ takes from the code anew"
	@echo "make site         the documentation as pages, in build/site"

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'hotloop needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"

# torch comes first and by itself: a range alone would take the registry's newest CUDA build.
$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) install --quiet --constraint constraints.txt --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) install --quiet --constraint constraints.txt --group check
	@touch $@

demo: $(VENV)/.base
	$(BIN)/hotloop demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL)

# The vendors' packages pin much that others need otherwise, so they have an environment of their
# own; the tests run in ours and start these as programs. Ours is there too, to train beside theirs.
.venv-vendors/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-vendors
	.venv-vendors/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-vendors/bin/python -m pip install --quiet $(TORCH)
	.venv-vendors/bin/python -m pip install --quiet --constraint constraints.txt --editable . --group vendors
	@touch $@

# flytekit is not for Python 3.13.
VENDORS = AZUREML CLEARML CODECARBON COMET DAGSHUB DVCLIVE HF LIGHTNING MLFLOW NEPTUNE \
    SWANLAB TENSORBOARD TRACKIO WANDB \
    $(shell $(PYTHON) -c "import sys; print('FLYTE' * (sys.version_info < (3, 13)))")

# With an interpreter named, no test can skip for want of a package: it fails. azureml-core would
# hold back packages of the others, so its test runs where HOTLOOP_AZURECORE_PYTHON names another.
test-vendors: $(VENV)/.test .venv-vendors/.installed
	env $(VENDORS:%=HOTLOOP_%_PYTHON=$(CURDIR)/.venv-vendors/bin/python) \
	    $(BIN)/python -m pytest $(PARALLEL) --dist loadfile \
	    tests/vendors tests/sinks/test_tensorboard.py tests/sinks/test_files.py

# Its own environment: the site is made from the sources alone, nothing of ours is imported.
.venv-docs/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-docs/bin/python -m pip install --quiet --group docs
	@touch $@

site: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html"

docs: $(VENV)/.base
	$(BIN)/python tests/sink_tables.py

coverage: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	@# --verifytypes asks the first Python of the path, whatever --pythonpath says, and knows no
	@# stubPath.
	@for package in bus runtime sinks; do \
	    echo "pyright --verifytypes $$package"; \
	    PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/typings" \
	        $(BIN)/pyright --ignoreexternal --verifytypes $$package \
	        > $(VENV)/verify.log || { cat $(VENV)/verify.log; exit 1; }; \
	    grep "completeness score" $(VENV)/verify.log; \
	done
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-test: $(VENV)/.base
	$(PIP) install --quiet --group package
	rm -rf dist
	$(BIN)/python -m build --quiet --wheel --sdist
	$(BIN)/python tests/wheel.py dist

soak: $(VENV)/.test
	$(BIN)/python benchmarks/soak.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/publish.py
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/outage.py
	PYTHONPATH=. $(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/ranks_scale.py
	$(BIN)/python benchmarks/watchdog.py
	@if [ -n "$$HOTLOOP_MLFLOW_PYTHON" ]; then $(BIN)/python benchmarks/mlflow.py; else \
	    echo "no metrics into MLflow: HOTLOOP_MLFLOW_PYTHON names no interpreter with mlflow"; fi

.venv-peers/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-peers/bin/python -m pip install --quiet $(TORCH)
	.venv-peers/bin/python -m pip install --quiet --constraint constraints.txt --editable . --group bench-peers
	@touch $@

bench-peers: .venv-peers/.installed
	.venv-peers/bin/python -m benchmarks.peers
	.venv-peers/bin/python benchmarks/tensorboard.py

.venv-trainers/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-trainers
	.venv-trainers/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-trainers/bin/python -m pip install --quiet $(TORCH)
	.venv-trainers/bin/python -m pip install --quiet --constraint constraints.txt --editable . --group bench-trainer
	@touch $@

bench-trainer: .venv-trainers/.installed
	.venv-trainers/bin/python benchmarks/trainer.py

# A CUDA build of torch has to be in .venv-trainers for it; ours is the CPU's.
bench-gpu: .venv-trainers/.installed
	.venv-trainers/bin/python benchmarks/gpu.py

bench-trackers: .venv-vendors/.installed
	.venv-vendors/bin/python benchmarks/trackers.py

clean:
	rm -rf $(VENV) .venv-docs .venv-peers .venv-vendors .venv-trainers dist build .coverage .coverage.* htmlcov
