# make demo    train, convert, export and detect on a drawn data set (under 10 minutes on two cores)
# make test    the tests; `make test SLOW=1` adds the slow ones
# make gpu     the tests that need a GPU (under 5 minutes)
# make check   lint, types and tests: what CI runs before docs-check, docs and clients
# make docs-check    every command of README and docs is run, in a copy of the project (about 6 minutes)
# make test-oldest    the tests with the lowest versions of everything, in .venv-oldest (PYTHON=python3.10)
# make bench   every stage against YOLOv5 (into .venv-peer) and its floor: a dated report; under 15 minutes on two cores
# make rknn    Rockchip's compiler for `export.py --preset rknn`, into .venv-rknn
# make clients    other programs (ultralytics, yolov5, SAHI) find the same boxes; into .venv-clients
# make docs    the documents as a site, into site/ (Python 3.11 or newer; into .venv-docs)
# make clean   remove caches, site/ and runs/demo; .venv and .venv-* stay
#
# Everything is installed into .venv from requirements.txt; nothing else is downloaded.

SHELL := /bin/bash
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet
CLIENT_TESTS := tests/end_to_end/test_yolov5_clients.py tests/end_to_end/test_foreign_programs.py \
	tests/end_to_end/test_hub.py tests/end_to_end/test_python_api.py
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3.10"; exit 1; }
MARKERS := $(if $(SLOW),-m 'not gpu and not benchmark')
SHARED ?= ../shared

.PHONY: help demo test gpu check lint docs-check bench rknn clients test-oldest docs clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.installed
	$(RUN) -m examples.demo

# One thread per test process: more would fight over the same cores.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(WORKERS) $(MARKERS) $(TESTS)

gpu: $(VENV)/.installed-dev
	$(RUN) -m pytest -q -m gpu tests/gpu

check: lint test

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m mypy --platform win32 --cache-dir .mypy_cache/win32
	$(RUN) $(VENV)/bin/vermin --quiet --violations --no-tips --eval-annotations --exclude long --exclude file.errors -t=3.10- *.py models data utils experiments examples benchmarks docs tests

docs-check: $(VENV)/.installed-dev
	$(RUN) -m tests.documents

# SHARED: the folder with data/coco128, data/video/street.mp4 and weights/yolov5n.pt. BENCH: flags.
bench: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory .venv-peer/.installed || echo "no peer: its columns are skipped"
	$(RUN) -m benchmarks.bench --shared $(SHARED) $(BENCH)

.venv-peer/.installed: requirements-peer.txt $(VENV)/.installed-dev
	@echo "installing requirements-peer.txt into .venv-peer"
	rm -rf .venv-peer && $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements-peer.txt
	$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv-peer/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_lent.pth"
	@touch $@

rknn: .venv-rknn/.installed

# Without dependencies: the toolkit asks for a torch of several gigabytes that it only imports.
.venv-rknn/.installed: requirements-rknn.txt $(VENV)/.installed
	@echo "installing requirements-rknn.txt into .venv-rknn"
	rm -rf .venv-rknn && $(PYTHON) -m venv .venv-rknn
	.venv-rknn/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements-rknn.txt
	$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv-rknn/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_torch.pth"
	@touch $@

# Old packages warn of each other's newer versions.
test-oldest: .venv-oldest/.installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n $(WORKERS) -W ignore::DeprecationWarning \
		--junitxml .venv-oldest/tests.xml $(TESTS)

.venv-oldest/.installed: requirements-oldest.txt
	@$(CHECK_PYTHON)
	@echo "installing requirements-oldest.txt into .venv-oldest (6 GB: torch comes with CUDA)"
	rm -rf .venv-oldest && $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip --disable-pip-version-check install --quiet --no-compile -r requirements-oldest.txt
	@touch $@

# YOLO_*: no usage data, no packages installed by themselves, settings beside the packages.
clients: .venv-clients/.installed
	OMP_NUM_THREADS=1 YOLO_OFFLINE=true YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR=.venv-clients \
		.venv-clients/bin/python -m pytest -q -n $(WORKERS) -m 'not gpu and not benchmark' \
		-k 'ultralytics or sahi- or yolov5 or supervision or pandas or tables or exported' $(CLIENT_TESTS)

.venv-clients/.installed: requirements-clients.txt $(VENV)/.installed-dev
	@echo "installing requirements-clients.txt into .venv-clients"
	rm -rf .venv-clients && $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements-clients.txt
	$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv-clients/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_lent.pth"
	@touch $@

# A fault in any page ends the build.
SITE = .venv-docs/bin/python -m sphinx --builder html --conf-dir docs/site --fail-on-warning --keep-going --quiet --fresh-env
docs: .venv-docs/.installed
	rm -rf site
	$(SITE) --doctree-dir .venv-docs/pages-en . site
	$(SITE) --doctree-dir .venv-docs/pages-zh --define language=zh_CN . site/zh
	@echo "open site/index.html"

.venv-docs/.installed: requirements-docs.txt
	@echo "installing requirements-docs.txt into .venv-docs"
	rm -rf .venv-docs && $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-docs.txt
	@touch $@

clean:
	rm -rf runs/demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	@echo "installing requirements.txt into $(VENV)"
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "installing requirements-dev.txt into $(VENV)"
	$(PIP) -r requirements-dev.txt
	@touch $@
