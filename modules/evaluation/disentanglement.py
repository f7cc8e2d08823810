"""What each embedding knows: retrieval of people, and linear probes of expression, pose and identity.

A good z_id finds its person and knows nothing of the face's expression; a good z_sem the reverse.  Both are read by the
simplest of readers, so that the figures are about the embedding and not about the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.data.synthetic import ACTION_UNITS, IDENTITY, POSE, Faces
from modules.evaluation.metrics import Figures
from modules.evaluation.world import MEASURING_SEED, portraits, renders

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # strengths tried, in units of the embedding's mean variance
Embed = Callable[[Tensor], tuple[Tensor, Tensor]]  # images [B, 3, H, W] -> z_id [B, d], z_sem [B, e]


class Embedded(NamedTuple):
    """Embeddings of many pictures beside the truth, one row each."""

    z_id: Tensor
    z_sem: Tensor
    faces: Faces


def measure(embed: Embed, size: int, people: int, frames: int) -> dict[str, Figures]:
    """Retrieval and probes for people never seen in training.

    Returns:
        for ``z_id`` and ``z_sem``: ``rank1`` (gallery and probes differ in everything but the person), ``rank1 same
        face`` (all share one expression and pose), and R2 of ridge probes: ``action units``, ``yaw``, ``pitch``,
        ``roll``, ``identity parameters``; chance of rank 1 is ``1 / people``.
    """
    varied = _embed(embed, portraits(people, frames, MEASURING_SEED), size)
    alike = _embed(embed, portraits(people, 2, MEASURING_SEED, same_face=True), size)
    figures: dict[str, Figures] = {}
    for name in ("z_id", "z_sem"):
        z = getattr(varied, name)
        figures[name] = {
            "rank1": rank1(z, frames),
            "rank1 same face": rank1(getattr(alike, name), 2),
            **_probes(z, varied.faces, frames),
        }
    return figures


def _embed(embed: Embed, faces: Faces, size: int) -> Embedded:
    with torch.inference_mode():
        rows = [embed(rendered.image) for rendered in renders(faces, size, "rendering people never seen")]
    z_id, z_sem = (torch.cat(column).float().clone() for column in zip(*rows, strict=True))
    return Embedded(z_id, z_sem, faces)


def rank1(z: Tensor, frames: int) -> float:
    """Share of pictures whose nearest neighbour (cosine) among everybody's first pictures is their own person's.

    ``z [people * frames, d]`` in the order of :func:`portraits`; the first picture of each person is the gallery.
    """
    unit = F.normalize(z - z.mean(dim=0), dim=1).unflatten(0, (-1, frames))
    gallery, probes = unit[:, 0], unit[:, 1:]
    nearest = (probes @ gallery.T).argmax(dim=-1)
    return float((nearest == torch.arange(len(gallery))[:, None]).double().mean())


def _probes(z: Tensor, faces: Faces, frames: int) -> Figures:
    """R2 of ridge regressions learnt on one half of the people and tested on the other."""
    targets = torch.cat([faces.action_units, faces.pose[:, :3], faces.identity], dim=1)
    people = len(z) // frames
    known = torch.arange(len(z)) < people // 2 * frames
    scores = ridge_r2(z[known], targets[known], z[~known], targets[~known], frames)
    units, pose, identity = scores.split([len(ACTION_UNITS), 3, len(IDENTITY)])
    named = dict(zip(POSE[:3], pose.tolist(), strict=True))
    per_unit = dict(zip(ACTION_UNITS, units.tolist(), strict=True))
    return {"action units": float(units.mean()), **named, "identity parameters": float(identity.mean()), **per_unit}


def ridge_r2(z: Tensor, y: Tensor, z_test: Tensor, y_test: Tensor, frames: int) -> Tensor:
    """Coefficient of determination per column of ``y`` on the test rows, ``[D]``; the ridge is chosen by people.

    Rows come in runs of ``frames`` of one person: the last quarter of the *people* chooses the strength.
    """
    held = len(z) // frames // 4 * frames
    best = max(RIDGES, key=lambda ridge: float(_fit(z[:-held], y[:-held], ridge, z[-held:], y[-held:]).mean()))
    return _fit(z, y, best, z_test, y_test)


def _fit(z: Tensor, y: Tensor, ridge: float, z_test: Tensor, y_test: Tensor) -> Tensor:
    mean, target = z.double().mean(dim=0), y.double().mean(dim=0)
    x = z.double() - mean
    gram = x.T @ x / len(x)
    strength = ridge * gram.diagonal().mean() + 1e-12
    weights = torch.linalg.solve(gram + strength * torch.eye(len(gram)).double(), x.T @ (y.double() - target) / len(x))
    wrong = y_test.double() - target - (z_test.double() - mean) @ weights
    spread = y_test.double() - y_test.double().mean(dim=0)
    return 1 - wrong.square().sum(dim=0) / spread.square().sum(dim=0).clamp(min=1e-12)
