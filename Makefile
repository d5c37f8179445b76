# `make` trains and reports, `make test` tests; both first set up .venv from requirements.lock.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all env test test-pipeline test-units lint bench ui sync lock clean

all: env
	snakemake --cores all

env: $(VENV)/.complete

# pip is given the hashes of all packages; the project itself needs no build environment then.
$(VENV)/.complete: requirements.lock pyproject.toml
	@command -v git >/dev/null || { echo "hemtrace: git is missing; install it (Debian: apt-get install git)."; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "hemtrace: $(PYTHON) is missing; install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv) or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "hemtrace: $(PYTHON) is not Python 3.11."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "hemtrace: $(PYTHON) has no venv module; install it (Debian: apt-get install python3.11-venv)."; exit 1; }
	@echo "hemtrace: setting up $(VENV) from requirements.lock (7.5 GB, some minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	touch $@

# Two at a time, each with one thread: half of the time is that of `snakemake` and `dvc` starting jobs.
# In several processes: a single one that has loaded all that the tests load grows to several GB.
test: env lint
	$(MAKE) --jobs 2 --output-sync=line test-pipeline test-units

test-pipeline test-units: export OMP_NUM_THREADS := 1

test-pipeline: env
	pytest tests/test_pipeline*.py

test-units: env
	pytest tests/test_[a-o]*.py
	pytest $(filter-out $(wildcard tests/test_pipeline*.py),$(wildcard tests/test_[p-r]*.py))
	pytest tests/test_[s-z]*.py

lint: env
	ruff check . && ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

# An hour and a quarter; results/ keeps the figures. MONAI, one of the peers, needs nothing that is not there.
bench: env
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps monai==1.6.1
	for name in decode read_back hu_gate crop shard_size fuzz scale train_speed train_loader train_start train_processes train_kill bootstrap heat report; do $(BIN)/python benchmarks/$$name.py || exit 1; done

# The tracking database is made by the first training.
ui: env
	mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1

# Bring a run that was pushed elsewhere; Snakemake then takes its products as its own.
sync: env
	dvc pull
	@state="$$(dvc status)"; echo "$$state"; case "$$state" in *"up to date"*) ;; *) echo "hemtrace: the products do not match dvc.lock (above); run dvc repro instead."; exit 1;; esac
	snakemake --cores all --touch

lock: env
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes -p 3.11 --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf data models reports/figures reports/plots reports/*.json reports/*.html reports/*.md logs .snakemake
