"""What each embedding knows: retrieval of people, and linear probes of expression, pose and identity.

A good z_id finds its person and knows nothing of the face's expression; a good z_sem the reverse.  Both are read by the
simplest of readers, so that the figures are about the embedding and not about the reader, and the probes are taught on
many more people than they are tested on: 33 identity parameters cannot be learnt from a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import solve
from ..world import ACTION_UNITS, IDENTITY, POSE, Faces
from .bootstrap import Each
from .metrics import Figures
from .people import MEASURING_SEED, PROBE_SEED, portraits, renders

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # strengths tried, in units of the embedding's mean variance
PROBE_FRAMES = 4  # pictures of each person probes are taught on
SAME_FACES = 5  # expressions and poses drawn for "rank1 same face"
LARGEST = 128  # pixels people are rendered at; larger frames are filled by enlarging, for probes need many pictures
Embed = Callable[[Tensor], tuple[Tensor, Tensor]]  # images [B, 3, H, W] -> z_id [B, d], z_sem [B, e]


class Knowledge(NamedTuple):
    """What one pair of encoders knows; rows are ``z_id`` and ``z_sem``.

    Attributes:
        figures: ``rank1`` (gallery and probes differ in everything but the person), ``rank1 same face`` (all share one
            expression and pose), and R2 of ridge probes: means over ``action units`` and over ``identity parameters``,
            ``yaw``, ``pitch``, ``roll``, and every unit and parameter by its name.  Chance of rank 1 is 1 / people.
        each: per person, the figures that are not of a single unit or parameter.
        without_spread: units and parameters alike in all pictures tested, of which nothing can be said.
    """

    figures: dict[str, Figures]
    each: Each
    without_spread: list[str]


class _Embedded(NamedTuple):
    z_id: Tensor
    z_sem: Tensor


def measure(embeds: dict[str, Embed], size: int, people: int, frames: int, teachers: int) -> dict[str, Knowledge]:
    """Retrieval and probes of every ``embeds`` on ``people`` never seen in training; ``teachers`` teach the probes."""
    taught, tested = portraits(teachers, PROBE_FRAMES, PROBE_SEED), portraits(people, frames, MEASURING_SEED)
    known, varied = _embed(embeds, taught, size), _embed(embeds, tested, size)
    alike = [
        _embed(embeds, portraits(people, 2, MEASURING_SEED, same_face=number), size) for number in range(SAME_FACES)
    ]
    truth, asked = _targets(taught), _targets(tested)
    found = {}
    for who in embeds:
        figures, each, without = {}, {}, []
        for row in _Embedded._fields:
            z = getattr(varied[who], row)
            retrieved = torch.stack([rank1(getattr(some[who], row), 2) for some in alike]).mean(dim=0)
            explained = explained_share(ridge(getattr(known[who], row), truth, PROBE_FRAMES, z), asked, frames)
            values = {"rank1": rank1(z, frames), "rank1 same face": retrieved, **_named(explained)}
            without = [name for name in _COLUMNS if values[name].isnan().any()]
            values = {name: value for name, value in values.items() if name not in without}
            figures[row] = {name: float(value.mean()) for name, value in values.items()}
            each[row] = {name: value.tolist() for name, value in values.items() if name not in _SINGLE}
        found[who] = Knowledge(figures, each, without)
    return found


def _embed(embeds: dict[str, Embed], faces: Faces, size: int) -> dict[str, _Embedded]:
    """Embeddings of all faces by everybody; each picture is rendered once and let go."""
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {who: [] for who in embeds}
    with torch.inference_mode():
        for rendered in renders(faces, min(size, LARGEST), "rendering people never seen"):
            images = rendered.image
            if size > LARGEST:
                images = F.interpolate(images, size=(size, size), mode="bilinear")
            for who, embed in embeds.items():
                rows[who].append(embed(images))
    return {
        who: _Embedded(*(torch.cat(column).double().clone() for column in zip(*parts, strict=True)))
        for who, parts in rows.items()
    }


def rank1(z: Tensor, frames: int) -> Tensor:
    """Share of each person's pictures whose nearest neighbour (cosine) among all first pictures is their own, ``[P]``.

    ``z [people * frames, d]`` in the order of :func:`portraits`; the first picture of each person is the gallery.
    """
    unit = F.normalize(z - z.mean(dim=0), dim=1).unflatten(0, (-1, frames))
    gallery, probes = unit[:, 0], unit[:, 1:]
    nearest = (probes @ gallery.T).argmax(dim=-1)
    return (nearest == torch.arange(len(gallery))[:, None]).double().mean(dim=1)


_COLUMNS = (*ACTION_UNITS, *POSE[:3], *IDENTITY)
_SINGLE = {*ACTION_UNITS, *IDENTITY}


def _targets(faces: Faces) -> Tensor:
    return torch.cat([faces.action_units, faces.pose[:, :3], faces.identity], dim=1).double()


def _named(explained: Tensor) -> dict[str, Tensor]:
    """Columns ``[P]`` by name, and the means over action units and over identity parameters that have a spread."""
    units, pose, identity = explained.split([len(ACTION_UNITS), 3, len(IDENTITY)], dim=1)
    return {
        "action units": units.nanmean(dim=1),
        **dict(zip(POSE[:3], pose.unbind(dim=1), strict=True)),
        "identity parameters": identity.nanmean(dim=1),
        **dict(zip(ACTION_UNITS, units.unbind(dim=1), strict=True)),
        **dict(zip(IDENTITY, identity.unbind(dim=1), strict=True)),
    }


def ridge(z: Tensor, y: Tensor, frames: int, z_test: Tensor) -> Tensor:
    """``y`` of ``z_test`` by ridge regression on ``z [N, d]``, ``y [N, D]``; each column has a strength of its own.

    Rows come in runs of ``frames`` of one person: the last quarter of the *people* chooses the strengths.
    """
    held = len(z) // frames // 4 * frames
    tried = _fits(z[:-held], y[:-held], z[-held:])
    best = (tried - y[-held:]).square().sum(dim=1).argmin(dim=0)
    return _fits(z, y, z_test).gather(0, best.expand(1, len(z_test), -1))[0]


def _fits(z: Tensor, y: Tensor, z_test: Tensor) -> Tensor:
    """Predictions ``[ridges, N, D]`` for ``z_test [N, d]``."""
    mean, target = z.mean(dim=0), y.mean(dim=0)
    x = z - mean
    gram, moment = x.T @ x / len(x), x.T @ (y - target) / len(x)
    unit = (gram.diagonal().mean() + 1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.stack([solve(gram + ridge * unit, moment) for ridge in RIDGES])
    return target + (z_test - mean) @ weights


def explained_share(predicted: Tensor, truth: Tensor, frames: int) -> Tensor:
    """``[people, D]`` whose means over people are R2, the coefficient of determination; nan where truth has no spread.

    A person's share is 1 less their squared error over the mean person's squared deviation: it may be below zero.
    """
    wrong, spread = (
        error.square().unflatten(0, (-1, frames)).sum(dim=1) for error in (predicted - truth, truth - truth.mean(dim=0))
    )
    mean = spread.mean(dim=0)
    return 1 - wrong / torch.where(mean > 1e-9, mean, torch.nan)
