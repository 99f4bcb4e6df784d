# Each file of tests goes to one of as many processes as there are cores: what a file compiles, it compiles once.
TEST := pytest --numprocesses auto --dist loadfile

# Every target creates .venv when it is missing; PYTHON chooses the interpreter.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test coverage lint bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[plot]" -c constraints.txt
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]" -c constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/jaxgmm demo --force

test: .venv/installed-test
	$(BIN)/python -m $(TEST)

coverage: .venv/installed-test
	$(BIN)/python -m $(TEST) --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed-test
	$(BIN)/python -m benchmarks.run --quick

clean:
	rm -rf .venv build *.egg-info
