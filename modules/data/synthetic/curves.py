"""Soft shapes that geometry and painting are made of; on numpy arrays and tensors alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bump(x, y, at: tuple[float, float], width: tuple[float, float]):
    """A Gaussian hill of height 1 at ``at``, with standard deviations ``width``."""
    exponent = -0.5 * (((x - at[0]) / width[0]) ** 2 + ((y - at[1]) / width[1]) ** 2)
    return exponent.exp() if isinstance(exponent, Tensor) else np.exp(exponent)


def step(x, low: float, high: float):
    """Smoothly from 0 at ``low`` to 1 at ``high``, which may be the smaller one."""
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, share):
    """``a`` where ``share`` is 0, ``b`` where it is 1."""
    return a + (b - a) * share


def spline(x: np.ndarray, knots: dict[float, float]) -> np.ndarray:
    """A monotone cubic through ``knots``, constant outside."""
    from scipy.interpolate import PchipInterpolator

    places = np.array(sorted(knots))
    return PchipInterpolator(places, [knots[p] for p in places])(np.clip(x, places[0], places[-1]))


def polyline(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear: ``values [B, K]`` at increasing ``places [K]``, read at ``x [B, M]``; returns [B, M]."""
    index = torch.searchsorted(places, x.contiguous()).clamp(1, len(places) - 1)
    share = ((x - places[index - 1]) / (places[index] - places[index - 1])).clamp(0, 1)
    return torch.lerp(values.gather(1, index - 1), values.gather(1, index), share)


def unit(vectors: Tensor, dim: int = 0) -> Tensor:
    """Vectors of length 1.  (``norm`` over the first dimension is an order of magnitude slower on a CPU.)"""
    return vectors * (vectors * vectors).sum(dim, keepdim=True).clamp(min=1e-12).rsqrt()


def length(vectors: Tensor, dim: int = 0) -> Tensor:
    """Lengths of vectors."""
    return (vectors * vectors).sum(dim).clamp(min=1e-12).sqrt()
