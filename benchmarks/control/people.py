"""Whom control is measured on: rendered people whom nothing has seen, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules import media
from modules.data.expression_pictures import people_showing
from modules.evaluation.people import MEASURING_SEED
from modules.world import render
from modules.world.control.sliders import Slider
from modules.world.control.units import SIDES, TURN, Units
from modules.world.parameters import ACTION_UNITS, Faces
from modules.world.puppets.states import States

ROOT = Path(__file__).parent.parent.parent
SIZE, AT_ONCE = 256, 16
PEOPLE, DRIVERS = ROOT / "Inputs/Identities", ROOT / "Inputs/driving videos"
PHOTOGRAPH = PEOPLE / "person-3.png"


def calm_people(count: int) -> Faces:
    """People without expression, seen closely from the front."""
    nothing = torch.zeros(count, len(ACTION_UNITS))
    faces = people_showing(nothing, nothing, torch.zeros(count, 2), MEASURING_SEED)
    return faces._replace(pose=torch.cat([torch.zeros(count, 3), faces.pose[:, 3:]], dim=1))


def doing(calm: Faces, slider: Slider, amount: float) -> Faces:
    """The same people with an amount of a slider; of units that a face does not show it can take none away."""
    codes = amount * Units().change(slider).repeat(calm.size, 1)
    codes[:, :SIDES].clamp_(min=0)
    shown = States.of_codes(codes).faces()
    pose = torch.cat([calm.pose[:, :3] + codes[:, TURN], calm.pose[:, 3:]], dim=1)
    return calm._replace(action_units=shown.action_units, asymmetry=shown.asymmetry, gaze=shown.gaze, pose=pose)


def rendered(faces: Faces) -> Tensor:
    """Their pictures ``[B, 3, S, S]``."""
    parts = [render(faces.take(slice(i, i + AT_ONCE)), SIZE).image for i in range(0, faces.size, AT_ONCE)]
    return torch.cat(parts)


def write_sheet(path: Path | None, rows: list[np.ndarray]) -> None:
    """Write rows of pictures below each other, if that is asked for."""
    if path is not None:
        media.write_image(path, np.concatenate(rows))
