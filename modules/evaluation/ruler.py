"""The measuring network as a ruler: what it reads against the truth, in fixed units, and its own error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..world import ACTION_UNITS, IDENTITY, POSE, Faces
from .disentanglement import explained_share
from .judges.face_meter import FaceMeter, Reading
from .metrics import Figures
from .people import MEASURING_SEED, portraits, pupil_distance, renders


class Ruler(NamedTuple):
    """A measuring network and what was found out about it on people it has not seen.

    Attributes:
        meter: the network.
        expression_unit: root mean square distance of z_exp between unrelated pictures.
        errors: of the network itself, on perfect pictures: ``summary``, and per identity parameter and action unit.
    """

    meter: FaceMeter
    expression_unit: float
    errors: dict[str, Figures]

    def expression_distance(self, first: Reading, second: Reading) -> Tensor:
        """Distance of expressions ``[B]``: 0 are equal, 1 as far apart as those of unrelated pictures."""
        return (first.z_exp - second.z_exp).norm(dim=1) / self.expression_unit


@torch.inference_mode()
def calibrate(meter: FaceMeter, size: int, people: int, frames: int) -> Ruler:
    """Measure the measuring network on pictures of ``size`` pixels."""
    faces = portraits(people, frames, MEASURING_SEED)
    readings, errors, first = [], [], 0
    for rendered in renders(faces, size, "rendering people to measure the meter on"):
        read, truth = meter(rendered.image), faces.take(slice(first, first + len(rendered.image)))
        readings.append((read.identity, read.action_units, read.z_exp))
        errors.append(reading_errors(read, truth, rendered.landmarks) | _degrees(read, truth))
        first += len(rendered.image)
    identity, units, expression = (torch.cat(column).double() for column in zip(*readings, strict=True))
    spread = (expression - expression.mean(dim=0)).square().sum(dim=1).mean()
    known = _r2(identity, faces.identity, IDENTITY, frames), _r2(units, faces.action_units, ACTION_UNITS, frames)
    means = {name: float(torch.cat([error[name] for error in errors]).mean()) for name in errors[0]}
    summary = {
        "identity parameters, R2": _mean(known[0]),
        "action units, R2": _mean(known[1]),
        **{name: value for name, value in means.items() if name not in ACTION_UNITS},
    }
    return Ruler(
        meter,
        float((2 * spread).sqrt()),
        {
            "summary": summary,
            "identity parameters, R2": known[0],
            "action units, R2": known[1],
            "action units, mean error": {name: means[name] for name in ACTION_UNITS},
        },
    )


def _r2(read: Tensor, truth: Tensor, names: tuple[str, ...], frames: int) -> Figures:
    """R2 of every column by name; those without spread in the truth are left out."""
    values = dict(zip(names, explained_share(read, truth.double(), frames).mean(dim=0).tolist(), strict=True))
    return {name: value for name, value in values.items() if value == value}  # nan is not equal to itself


def _mean(figures: Figures) -> float:
    return sum(figures.values()) / len(figures)


def _degrees(read: Reading, faces: Faces) -> dict[str, Tensor]:
    return dict(zip(POSE[:3], (read.pose - faces.pose)[:, :3].abs().unbind(dim=1), strict=True))


def reading_errors(read: Reading, faces: Faces, landmarks: Tensor) -> dict[str, Tensor]:
    """How far a reading is from the truth, per picture ``[B]``; landmarks in :func:`pupil_distance`."""
    units = (read.action_units - faces.action_units).abs()
    return {
        "AU": units.mean(dim=1),
        "pose": (read.pose - faces.pose)[:, :3].abs().mean(dim=1),
        "identity": (read.identity - faces.identity).abs().mean(dim=1),
        "landmarks": (read.landmarks - landmarks).norm(dim=-1).mean(dim=1) / pupil_distance(faces),
        **dict(zip(ACTION_UNITS, units.unbind(dim=1), strict=True)),
    }
