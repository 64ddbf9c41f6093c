# `make lab` and `make test` work from a fresh clone: each makes the environment first.
VENV   ?= .venv
PYTHON ?= python3.11
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export TF_CPP_MIN_LOG_LEVEL ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: help lab demo test quick coverage build book evidence lint package transcript dates clean
help:
	@echo "make lab     make the environment, then open JupyterLab on the lessons"
	@echo "make demo    release, collect, grade and report a class of 24 simulated learners"
	@echo "make test    make the environment, then run the whole test suite"
	@echo "make quick   the fast tests only"
	@echo "make coverage  which lines of course_lib its tests run; fails under 95%"
	@echo "make build   build lessons/ from solutions/"
	@echo "make book    the course to read, every lesson run, into build/book/site"
	@echo "make lint    style, and the layers"
	@echo "make package    wheel and sdist into dist/: lessons and data in, solutions out"
	@echo "make transcript run the instructor's guide and write down what it prints"
	@echo "make dates      run the tests with the newest versions of everything (DATES='--quick --constraint torch==2.13.0')"

# Everything is pinned by the lock; the project itself is installed without resolving anything anew.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11, or name another with PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lab: $(READY)
	$(BIN)/course lab

demo: $(READY)
	$(BIN)/course demo

# One file a worker: what a file sets up (a graded class, a JupyterLab) is set up once.
test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

quick: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Apart from `make test`, as counting lines makes these tests much slower.
coverage: $(READY)
	$(BIN)/python -m pytest tests/course_lib -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

build: $(READY)
	$(BIN)/course build

book: $(READY)
	$(BIN)/python docs/book/build.py

evidence: $(READY)
	$(BIN)/course evidence

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

package: $(READY)
	$(BIN)/python -m hatchling build -t wheel -t sdist

transcript: $(READY)
	$(BIN)/python tests/end_to_end/guides.py

dates: $(READY)
	$(BIN)/python tests/dates.py $(DATES)

clean:
	rm -rf $(VENV) demo-class build dist
