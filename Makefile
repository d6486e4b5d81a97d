# Two commands: `make run` sets up and runs the embedded default, `make test` sets up and runs every check. `make quick` is for
# after each change: no root, no network, a minute and a half on two cores.
PYTHON ?= python3
BUNDLE ?= my-model-$(shell date +%Y%m%d-%H%M%S)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test quick install check lab-packages clean
.DELETE_ON_ERROR:

run: install
	$(BIN)/pipeline run --quick --output $(BUNDLE)

install: $(VENV)/installed

# Three processes for two cores: much of what the tests over SSH do is waiting.
TEST_PROCESSES ?= 3

test:
	$(MAKE) --no-print-directory --jobs=2 lab-packages check
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_OPTIONS)

# What starts agents, servers and whole commands is left to `make test`, and so are tests marked as slow: a second and
# more each, or further variations of what is tried here (tests/variations.py).
NOT_QUICK := tests/lab tests/documents tests/device_agents tests/pipeline/cli tests/pipeline/devices/sessions \
  tests/pipeline/evaluation tests/pipeline/devices/test_agent_client.py tests/pipeline/devices/test_hostile_answers.py \
  tests/pipeline/devices/test_holding_a_board.py tests/pipeline/devices/diagnostics/test_doctor.py \
  tests/pipeline/run/test_finalists.py tests/pipeline/run/test_round.py tests/pipeline/run/test_runner.py \
  tests/pipeline/run/test_search_stage.py tests/pipeline/run/test_selection.py \
  tests/pipeline/run/test_own_trainer.py tests/pipeline/run/test_int8_trial.py \
  tests/pipeline/run/test_artifact_builder.py tests/pipeline/run/test_workers.py tests/pipeline/workers \
  tests/pipeline/deployment tests/pipeline/export/formats \
  tests/pipeline/test_torchvision_compat.py tests/test_examples.py tests/test_extending.py

quick: $(VENV)/tested-with
	$(BIN)/python -m pytest -n 2 -m "not slow and not sshd" $(NOT_QUICK:%=--ignore %) $(PYTEST_OPTIONS)

# What needs no device and no time: style, types, who imports whom, the agent's Python 3.6, the documents' site.
check: $(VENV)/tested-with
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin --target=3.6- --violations --no-tips --eval-annotations device_agents deploy/runtime.py deploy/controller.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/tested-with: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/installed

# What the virtual boards of tests/lab and the tests against a real sshd and a real PostgreSQL are made of, in one call. Without them, and
# without the right to install them, those tests skip, each with its reason.
LAB_PACKAGES := cpio csh debian-archive-keyring fish gcc-aarch64-linux-gnu iproute2 mksh openssh-server postgresql \
  qemu-system-arm qemu-user-static sudo tcsh xz-utils zsh

lab-packages: | $(VENV)/bin/python  # which may use apt-get, too
	@dpkg --status $(LAB_PACKAGES) >/dev/null 2>&1 || { \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo -n); \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends \
	    $(LAB_PACKAGES) >/dev/null; } \
	  || echo "not all installed: $(LAB_PACKAGES); tests that need them will be skipped"

clean:
	rm -rf $(VENV) .lab build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
