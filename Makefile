# make demo   sets up a virtual environment and makes an image with the embedded model, dense and with ToDo;
#             DEMO="--prompt 'a rocket'" adds options to the command
# make bench  measures speed at all sizes against the alternatives; BENCH="--model sdxl" adds options to the command
# make test   sets up the same, with the test tools, and runs every check
# make matrix runs the tests of the method with the oldest torch that is supported and with the newest, on several
#             Pythons, and records the result for the documents; MATRIX="3.12-newest" chooses
# make docs   writes every generated table, plot and page of the documents
# make pictures  makes the pictures in the documents; PICTURES="demo" chooses. SD_WEBUI_URL and COMFYUI_URL name a running
#             WebUI and ComfyUI for those of their pages
#
# PYTHON chooses the interpreter (3.10 or newer), VENV the folder of the virtual environment.

PYTHON ?= $(shell for each in python3.11 python3.10 python3 python; do \
	$$each -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet

.PHONY: demo bench test docs pictures lint types unit matrix clean

demo: $(VENV)/.demo
	$(RUN) -m benchmarks demo $(DEMO)

bench: $(VENV)/.demo
	$(RUN) -m benchmarks speed --published $(BENCH)

test: lint types unit

docs: $(VENV)/.demo
	$(RUN) -m docs.generate

pictures: $(VENV)/.test
	$(RUN) -m docs.generate.pictures $(PICTURES)

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.test
	$(VENV)/bin/mypy

unit: $(VENV)/.test
	$(RUN) -m pytest --numprocesses auto --dist loadfile

# Each word is a Python and a file of requirements. The interpreters must be there.
MATRIX ?= 3.10-oldest 3.12-newest 3.13-newest

matrix: $(MATRIX:%=.venv-%/.ready)
	@for each in $(MATRIX); do \
		UNIT_RECORD=tests/unit/records/$$each.json \
			.venv-$$each/bin/python -m pytest -q -p no:cacheprovider tests/unit > .venv-$$each/log 2>&1; \
		.venv-$$each/bin/python -c "import platform, torch; \
			print('Python', platform.python_version(), 'torch', torch.__version__, end=': ')"; tail -1 .venv-$$each/log; \
	done

.venv-%/.ready: requirements/oldest.txt requirements/newest.txt
	python$(firstword $(subst -, ,$*)) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/$(lastword $(subst -, ,$*)).txt
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps stable-diffusion-sdkit==2.1.5
	touch $@

clean:
	rm -rf $(VENV) .venv-* artifacts

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
