"""Soft shapes that geometry and painting are made of; on numpy arrays and tensors alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bump(x, y, at: tuple[float, float], width: tuple[float, float]):
    """A Gaussian hill of height 1 at ``at``, with standard deviations ``width``."""
    across, up = (x - at[0]) * (0.5**0.5 / width[0]), (y - at[1]) * (0.5**0.5 / width[1])
    if isinstance(across, Tensor) and isinstance(up, Tensor):
        return torch.addcmul(across.mul_(across), up, up).neg_().exp_()
    exponent = -(across * across + up * up)
    return exponent.exp() if isinstance(exponent, Tensor) else np.exp(exponent)


def hill(distance: Tensor) -> Tensor:
    """Nearly exp(-distance^2), cheaper, and 0 from 2 on."""
    t = (distance * distance).mul_(-0.25).add_(1).clamp_(min=0)
    t = t.mul_(t)
    return t.mul_(t)


def step(x, low, high):
    """Smoothly from 0 at ``low`` to 1 at ``high``, which may be the smaller one."""
    if isinstance(x, Tensor) and not isinstance(low, Tensor) and not isinstance(high, Tensor):
        t = (x - low).mul_(1 / (high - low)).clamp_(0, 1)
        return (t * t).mul_(t.mul_(-2).add_(3))
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, share):
    """``a`` where ``share`` is 0, ``b`` where it is 1."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.lerp(a, b, share)
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
