"""How sure a mean is: percentile bootstrap over what was drawn independently, people or pairs of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95
Difference = tuple[float, tuple[float, float]]  # mean and interval
Each = dict[str, dict[str, list[float]]]  # row -> figure -> one value per person or pair


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean of ``values`` lies with 95 % confidence; the same values give the same interval."""
    if len(values) == 1:  # nothing else can be drawn
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def intervals(each: Each) -> dict[str, dict[str, tuple[float, float]]]:
    """:func:`interval` of every figure of every row."""
    return {row: {name: interval(values) for name, values in figures.items()} for row, figures in each.items()}


def differences(rows: Each, asked: Iterable[tuple[str, str]]) -> dict[str, dict[str, Difference]]:
    """Of every ``asked`` pair of rows the first's figures less the second's, mean and interval, pair by pair."""
    return {
        f"{one} less {other}": {name: difference(values, rows[other][name]) for name, values in rows[one].items()}
        for one, other in asked
    }


def difference(values: Sequence[float], others: Sequence[float]) -> Difference:
    """The mean of what ``values`` are more than their ``others``, and its :func:`interval`."""
    apart = [a - b for a, b in zip(values, others, strict=True)]
    return sum(apart) / len(apart), interval(apart)
