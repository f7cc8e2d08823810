"""How sure a mean is: percentile bootstrap over what was drawn independently, people or pairs of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
Each = dict[str, dict[str, list[float]]]  # row -> figure -> one value per person or pair


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean of ``values`` lies with 95 % confidence; the same values give the same interval."""
    drawn = np.asarray(values, dtype=float)
    index = np.random.default_rng(0).integers(len(drawn), size=(RESAMPLES, len(drawn)))
    low, high = np.quantile(drawn[index].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def intervals(each: Each) -> dict[str, dict[str, tuple[float, float]]]:
    """:func:`interval` of every figure of every row."""
    return {row: {name: interval(values) for name, values in figures.items()} for row, figures in each.items()}
