# make demo: everything, small, in minutes · make test: the tests · make lint: the linters
# make slurm: the workflow on a real Slurm of one node, where there can be one (root on Debian)
# make faults: kills, damage and mutated inputs by the hundred and thousand, counted
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint slurm faults

demo: .venv/installed
	$(BIN)/snakemake all --quiet host reason --configfile workflow/presets/demo.yaml
	@echo; echo "Test accuracy (%), without augmentation:"; tail -n +2 results/demo/tables/table1.md; echo
	@echo "Tables:  results/demo/tables"
	@echo "Figures: results/demo/figures"
	@echo "Report:  results/demo/report.html (open it in a browser)"
	@echo "Logs:    results/demo/logs (one per job); of the whole run: $$(ls -t .snakemake/log/*.log | head -n 1)"

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

slurm: .venv/installed
	$(BIN)/python -m pytest -v -m slurm tests/slurm

faults: .venv/installed
	$(BIN)/python tests/faults

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
