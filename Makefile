# make demo   sets up a virtual environment and makes an image with the embedded model, dense and with ToDo;
#             DEMO="--prompt 'a rocket'" adds options to the command
# make bench  measures speed at all sizes against the alternatives; BENCH="--model sdxl" adds options to the command
# make test   sets up the same, with the test tools, and runs every check
# make docs   writes every generated table, plot and page of the documents
#
# PYTHON chooses the interpreter (3.10 or newer), VENV the folder of the virtual environment.

PYTHON ?= $(shell for each in python3.11 python3.10 python3 python; do \
	$$each -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet

.PHONY: demo bench test docs lint types unit clean

demo: $(VENV)/.demo
	$(RUN) -m benchmarks demo $(DEMO)

bench: $(VENV)/.demo
	$(RUN) -m benchmarks speed --published $(BENCH)

test: lint types unit

docs: $(VENV)/.demo
	$(RUN) -m docs.generate

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.test
	$(VENV)/bin/mypy

unit: $(VENV)/.test
	$(RUN) -m pytest

clean:
	rm -rf $(VENV) artifacts

# The real ldm package comes without its dependencies, which pin versions of 2022; pip would complain about that
# whenever something is installed after it.
define set_up
	@echo "Setting up $(VENV) (some minutes the first time) ..."
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer with its venv module is needed (python3-venv on Debian)"; exit 1; }
	@# One that was interrupted in the making has no pip.
	$(RUN) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(PIP) -r $(1) -c requirements/lock.txt
	$(PIP) --no-deps stable-diffusion-sdkit==2.1.5
endef

$(VENV)/.demo: requirements/demo.txt requirements/lock.txt
	$(call set_up,requirements/demo.txt)
	touch $(VENV)/.demo

$(VENV)/.test: requirements/demo.txt requirements/test.txt requirements/lock.txt
	$(call set_up,requirements/test.txt)
	touch $(VENV)/.demo $(VENV)/.test
