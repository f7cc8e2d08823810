"""Thin-plate splines: the smoothest map that takes some points to others (Bookstein, 1989)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...geometry import solve

RIDGE = 1e-3  # points need not be met exactly: those of closed lips lie on one another and want different things


def thin_plate(points: Tensor, values: Tensor, places: Tensor, ridge: float = RIDGE) -> Tensor:
    """The spline through ``values [B, N, C]`` at ``points [B, N, 2]``, at ``places [P, 2]``: ``[B, P, C]``."""
    batch, count = points.shape[:2]
    bent = _kernel(points, points) + ridge * torch.eye(count, dtype=points.dtype, device=points.device)
    flat = _plane(points)
    system = torch.cat(
        [torch.cat([bent, flat], dim=2), torch.cat([flat.mT, flat.new_zeros(batch, 3, 3)], dim=2)], dim=1
    )
    wanted = torch.cat([values, values.new_zeros(batch, 3, values.shape[2])], dim=1)
    # neighbouring points make the system all but singular: in single precision a face at rest would tremble
    weights = solve(system.double(), wanted.double()).to(values.dtype)
    places = places.expand(batch, -1, -1)
    return _kernel(places, points) @ weights[:, :count] + _plane(places) @ weights[:, count:]


def affine(points: Tensor, values: Tensor, places: Tensor) -> Tensor:
    """The affine map nearest to ``values [B, N, C]`` at ``points [B, N, 2]``, at ``places [P, 2]``: ``[B, P, C]``."""
    plane = _plane(points)
    gram = plane.mT @ plane + 1e-4 * torch.eye(3, dtype=points.dtype, device=points.device)
    return _plane(places.expand(len(points), -1, -1)) @ solve(gram, plane.mT @ values)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 log |a - b|^2, by one product of matrices: places are many."""
    squared = a.square().sum(-1)[..., None] + b.square().sum(-1)[:, None] - 2 * a @ b.mT
    squared = squared.clamp(min=1e-8)
    return squared * squared.log()


def _plane(points: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(points[..., :1]), points], dim=-1)
