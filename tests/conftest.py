"""Fixtures shared by the tests.  Everything a test needs it makes itself or finds beside it."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' tensors are small: threads would only wait for each other

import pytest
import torch

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
