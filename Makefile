# `make demo` and `make test` are all a new user needs: each makes .venv and installs requirements.txt on first use.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO := build/demo
PROMPT := a portrait photo of a person with curly red hair, wearing a blue hoodie, in front of a brick wall, in warm light from the left

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(PY) Inference.py --side_by_side --find_best_frame --driving_video "Inputs/driving videos/driver-1.mp4" \
	    --result_video $(DEMO)/result.mp4
	$(PY) Inference.py --side_by_side --drive expression --reference_image "Inputs/driving static images/surprise.png" \
	    --result_image $(DEMO)/result.png
	$(PY) Inference.py --grid --num_images 4 --guidance_scale 3 --prompt "$(PROMPT)" --result_image $(DEMO)/portrait.png
	@echo "Look at $(DEMO)/result.mp4, $(DEMO)/result.png and $(DEMO)/portrait.png (source | driver | result)."

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
