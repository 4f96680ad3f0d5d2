# Everything one does here. Needs python3 (3.11 or newer) and make; the rest goes into .venv.
#
#   make run      a cluster of three nodes on this machine        ARGS="--election none" for others
#   make test     every test                                      ARGS="-k cycle" for some
#   make sim      the simulation: 200 seeds of every mode
#   make torture  villains beside honest clients; ten minutes of faults under a leader; then the simulation for an hour
#   make check    format, lint, types, import layers, generated code up to date

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test sim sweep torture mutants check bench bench-peers proto format lock clean

PYTHON ?=
ARGS ?=
# One more than there are processors, since many a test waits for a process.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
BIN := .venv/bin
# Set by a caller that measures or debugs; not by the person at the keyboard. Compiling ourolog takes as long as
# importing it, and the tests start hundreds of processes: the bytecode is kept.
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make mutants  the kill score of the simulation's checkers: a table, and docs/mutants.md"
	@echo "make sweep    10,000 seeds of clusters of three, five and seven that elect their leaders"
	@echo "make bench    the benchmark: a table, and JSON in bench/results"
	@echo "make bench-peers  the same loads on etcd, NATS, Redis and Kafka beside ours; builds what is not there"
	@echo "make format   rewrite the code in the house's format"
	@echo "make proto    generate rpc/v1 from proto/ again"
	@echo "make lock     resolve the lock files again (needs uv)"
	@echo "make clean    remove what the other targets made, .venv too"

run: .venv/run.stamp
	@exec $(BIN)/ourolog dev $(ARGS)

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# SEEDS and FROM choose which; every mode is a cluster of its own kind. From 200 seeds on each has to
# reach its rare states. Where the leader changes, a fourth node stands by: it copies, and has no vote.
SEEDS ?= 200
FROM ?= 0
SIMULATE = $(BIN)/ourolog simulate --seeds $(SEEDS) --from $(FROM) --minutes 0.5 \
	$(shell [ $(SEEDS) -lt 200 ] || echo --must-reach)
sim: .venv/dev.stamp
	$(SIMULATE) --election none --cycle break $(ARGS)
	$(SIMULATE) --election none --cycle allow $(ARGS)
	$(SIMULATE) --election static $(ARGS)
	$(SIMULATE) --election decrees --nodes 4 $(ARGS)
	$(SIMULATE) --election oracle --nodes 4 $(ARGS)
	$(SIMULATE) --election raft --nodes 4 $(ARGS)

# 10,000 runs by default, more than an hour of two processors; a violation ends it and is printed with the seed that
# repeats it.
SWEEP ?= 10000
RAFT = $(BIN)/ourolog simulate --from 100000 --minutes 0.3 --election raft
sweep: .venv/dev.stamp
	$(RAFT):n1,n2,n3 --nodes 3 --seeds $(shell expr $(SWEEP) \* 12 / 20) $(ARGS)
	$(RAFT):n1,n2,n3,n4,n5 --nodes 5 --seeds $(shell expr $(SWEEP) \* 5 / 20) $(ARGS)
	$(RAFT):n1,n2,n3,n4,n5,n6,n7 --nodes 7 --seeds $(shell expr $(SWEEP) \* 3 / 20) $(ARGS)

torture: .venv/dev.stamp
	$(BIN)/python -m torture
	$(BIN)/python -m torture.elections --minutes 10
	$(MAKE) sim SEEDS=2000 FROM=10000
	$(BIN)/ourolog simulate --seeds 1000 --from 10000 --minutes 0.5 --must-reach --election disasters
	for nodes in 5 9; do for election in none static decrees oracle raft; do \
		$(BIN)/ourolog simulate --seeds 500 --from 20000 --nodes $$nodes --election $$election || exit 1; \
	done; done

# How many seeds it takes to notice each of a set of deliberate bugs; writes docs/mutants.md.
mutants: .venv/dev.stamp
	$(BIN)/python -m mutants $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/generated.py --check

bench: .venv/dev.stamp
	$(BIN)/python -m bench $(ARGS)

bench-peers: .venv/dev.stamp
	$(BIN)/python -m bench.peers $(ARGS)

proto: .venv/dev.stamp
	$(BIN)/python .ci/generated.py

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build dist bench/results .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, so that a second run installs nothing.
.venv/run.stamp: requirements.lock pyproject.toml | .venv/made.stamp
	@echo "Installing what a node needs into .venv …"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

.venv/dev.stamp: requirements-dev.lock pyproject.toml | .venv/made.stamp
	@echo "Installing what development needs into .venv …"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@ .venv/run.stamp

.venv/made.stamp:
	@PYTHON="$(PYTHON)" sh .ci/make-venv .venv
	@touch $@
