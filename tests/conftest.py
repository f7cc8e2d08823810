"""Fixtures shared by the tests.  Everything a test needs it makes itself or finds beside it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' tensors are small: threads would only wait for each other

import pytest
import torch

DATA = Path(__file__).parent / "data"
LONGEST = (
    "training",
    "small_base",
    "mef_training",
    "mef_branch",
    "expressions",
    "measures",
    "onnx",
    "mesh_motion",
    "recipe",
    "inference",
    "portraits",
    "bundled",
    "mef",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: none is then left to one process alone while the others have nothing to do."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
    if os.environ.get("DEEPEXPR_SLOW") != "1":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow, and others test much of it: DEEPEXPR_SLOW=1 runs it"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow beyond 20 kB: what the system says then reaches us as the word of a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
