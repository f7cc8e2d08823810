# `make demo` and `make test` are all a new user needs: each makes .venv and installs what it needs on first use.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# One thread a process: tests run in as many processes as there are cores. A file's tests stay together, since they
# share what it trained; the longest files come first (tests/conftest.py).
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder
DEMO := build/demo
PROMPT := a portrait photo of a person with curly red hair, wearing a blue hoodie, in front of a brick wall, in warm light from the left

.PHONY: demo app test test-fast bench lint types clean

demo: $(VENV)/installed
	$(PY) -m benchmarks.demo --out $(DEMO)/people.mp4
	$(PY) Inference.py --grid --num_images 4 --guidance_scale 3 --prompt "$(PROMPT)" --result_image $(DEMO)/portrait.png
	@echo "Look at $(DEMO)/people.mp4 (driver | photograph | --motion mesh | the bundled SID) and $(DEMO)/portrait.png."

# the page in the browser; PORT=8000 for another port
app: $(VENV)/app
	$(PY) app.py $(if $(PORT),--port $(PORT))

test: $(VENV)/developing
	$(PYTEST)

# without those that train or start whole programs
test-fast: $(VENV)/developing
	$(PYTEST) tests/test_architecture.py tests/test_arguments.py tests/test_checkpoint.py tests/test_config*.py \
	    tests/test_data.py tests/test_fomm_parity.py tests/test_media*.py tests/test_pictures.py tests/test_sid*.py \
	    tests/test_updates.py

# beside the reference's way of working, in one run
bench: $(VENV)/installed
	$(PY) -m benchmarks.speed inference
	$(PY) -m benchmarks.speed latency
	$(PY) -m benchmarks.speed pairs
	$(PY) -m benchmarks.training step

lint: $(VENV)/developing
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/developing
	$(VENV)/bin/mypy

$(VENV)/installed: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/app: $(VENV)/installed requirements-app.txt
	$(PIP) -r requirements-app.txt
	touch $@

$(VENV)/developing: $(VENV)/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

clean:
	rm -rf build .pytest_cache .ruff_cache .mypy_cache
