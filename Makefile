# `make demo` and `make test` are all a new user needs: each makes .venv and installs requirements.txt on first use.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO := build/demo

.PHONY: demo test lint clean

demo: $(VENV)/installed $(DEMO)/data/driving.mp4
	@echo "No trained weights are bundled yet. This demo is a smoke test: it trains a 64-pixel model for some minutes"
	@echo "on clips made from one photograph (scikit-image's astronaut) and animates that photograph with it."
	$(PY) train_sid.py --config config/demo-64.yaml --log_dir $(DEMO)/log --resume auto
	$(PY) Inference.py --config config/demo-64.yaml --side_by_side \
	    --checkpoint "$$(ls -t $(DEMO)/log/*/*-checkpoint.pth.tar | head -n 1)" \
	    --source_image $(DEMO)/data/source.png \
	    --driving_video $(DEMO)/data/driving.mp4 --reference_image $(DEMO)/data/driving.png \
	    --result_video $(DEMO)/result.mp4 --result_image $(DEMO)/result.png
	@echo "Smoke test done: look at $(DEMO)/result.mp4 and $(DEMO)/result.png (source | driver | result)."

# the last of the files that the command writes: it is there when all are
$(DEMO)/data/driving.mp4: | $(VENV)/installed
	$(PY) -m modules.data.astronaut $(DEMO)/data

test: $(VENV)/installed
	$(PY) -m pytest

lint: $(VENV)/installed
	$(VENV)/bin/pip install --quiet ruff
	$(VENV)/bin/ruff check .

$(VENV)/installed: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf build .pytest_cache .ruff_cache
