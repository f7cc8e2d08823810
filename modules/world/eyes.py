"""Lids as curves over the face, and the eyeballs behind them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import colours
from .curves import length, mix, step, unit
from .head import EYE
from .light import Light
from .noise import noise
from .parameters import ACTION_UNITS, Faces, identity_column, sided

HALF = 0.245  # half the width of the opening
UPPER, LOWER = 0.118, 0.086  # heights of the lids over the line through the corners, eye at rest
RADIUS = 0.215  # of the eyeball
IRIS = 0.11
_IRIS_COLORS = (
    (0.09, 0.045, 0.02),
    (0.2, 0.1, 0.035),
    (0.17, 0.125, 0.05),
    (0.11, 0.15, 0.085),
    (0.1, 0.17, 0.26),
    (0.2, 0.25, 0.29),
)


TOP, BOTTOM = 0.30, -0.32  # face coordinates Y between which skin gives way to the lids


class Lids(NamedTuple):
    """Heights of the two lids at their middle, [2, B]: of the person's right eye (left in the image), then left."""

    upper: Tensor
    lower: Tensor


def lids(faces: Faces) -> Lids:
    """Where the lids are: opened by AU5, tightened by AU6 and AU7, closed by AU43, following the gaze."""
    left, right = sided(faces)
    units = torch.stack([right, left])
    raised, cheek, tight, wrinkle, smile, closed = (
        units[..., ACTION_UNITS.index(name)] for name in ("AU5", "AU6", "AU7", "AU9", "AU12", "AU43")
    )
    down = (-faces.gaze[:, 1] / 30).clamp(-0.6, 0.9)
    upper = UPPER * (1 + 0.42 * raised - 0.18 * tight - 0.12 * wrinkle - 0.08 * cheek - 0.45 * down)
    lower = LOWER * (1 + 0.1 * raised - 0.5 * tight - 0.45 * cheek - 0.2 * wrinkle - 0.1 * smile + 0.25 * down)
    meeting = -0.045
    return Lids(mix(upper, meeting, closed), mix(lower, -meeting - 0.004, closed))


def lid_height(across: Tensor, middle: Tensor, upper: bool) -> Tensor:
    """Y of a lid's edge at ``across`` in [-1, 1] (inner to outer corner), its height at the middle given.

    ``middle`` counts from the line of the corners, upwards for the upper lid and downwards for the lower.
    """
    arc = (1 - across * across).clamp(min=0)
    if upper:
        return 0.012 * across + middle * arc**0.72 * (1 - 0.12 * across)
    return 0.012 * across - middle * arc**0.85 * (1 + 0.18 * across)


def across(x: Tensor) -> Tensor:
    """Place along an eye, -1 at its inner corner and 1 at its outer, of face coordinates X."""
    return (x.abs() - EYE) / HALF


def near_eyes(x: Tensor, y: Tensor) -> Tensor:
    """Whether face coordinates are where lids move the skin."""
    return (across(x).abs() < 1.12) & (y < TOP) & (y > BOTTOM)


def eye_colour(
    faces: Faces,
    point: Tensor,
    x: Tensor,
    y: Tensor,
    top: Tensor,
    bottom: Tensor,
    centre: Tensor,
    view: Tensor,
    rotation: Tensor,
    light: Light,
) -> Tensor:
    """What is seen between the lids, [3, B, M], linear.

    Args:
        faces: B faces.
        point: [3, B, M] where the ray from the camera meets the skin's mesh, in the head's space.
        x: face coordinate X there.
        y: face coordinate Y there.
        top: Y of the upper lid above.
        bottom: Y of the lower lid beneath.
        centre: [2, B, 3] middles of the eyeballs, the one at the left of the image first.
        view: [B, 3] the camera in the head's space.
        rotation: [B, 3, 3] of the head.
        light: of the scenes.
    """
    left = (x > 0).float()
    middle = mix(centre[0].T[..., None], centre[1].T[..., None], left)
    radius = RADIUS * (1 + 0.12 * identity_column(faces, "eye_size"))[:, None]
    ray = point - view.T[..., None]
    ray = unit(ray)
    offset = point - middle
    along = (offset * ray).sum(0)
    inside = (along**2 - (offset**2).sum(0) + radius**2).clamp(min=0)
    normal = (offset + ray * (-along - inside.sqrt())) / radius  # a ray that misses grazes the ball

    yaw, pitch = torch.deg2rad(faces.gaze).T[..., None]
    yaw = yaw + 0.035 - 0.07 * left  # both eyes look at something near
    gaze = torch.stack([yaw.sin() * pitch.cos(), pitch.sin().expand_as(yaw), yaw.cos() * pitch.cos()])
    from_axis = length(normal - gaze) * RADIUS / IRIS  # 1 at the rim of the iris
    colour = _surface(faces, normal, gaze, from_axis)

    turned = torch.einsum("bij,jbm->ibm", rotation, normal)
    shadow = step(top - y, -0.005, 0.1) * (0.55 + 0.45 * step(y - bottom, -0.02, 0.035))
    corner = step(1 - across(x).abs(), -0.05, 0.3)
    facing = (turned * light.direction.T[..., None]).sum(0)
    skin = colours.skin(faces)[:1].clamp(max=0.55) / 0.55  # the surroundings of an eye light it
    arriving = light.sky + light.lamp * (0.3 + 0.5 * facing.clamp(min=0))
    lit = colour * (0.4 + 0.6 * skin) * arriving * (0.22 + 0.78 * shadow) * (0.6 + 0.4 * corner)
    half = light.direction.T[..., None] + torch.tensor([0.0, 0.0, 1.3], device=x.device)[:, None, None]
    half = unit(half)
    bulge = turned + 0.45 * torch.einsum("bij,jbm->ibm", rotation, (normal - gaze) * (from_axis < 1.2))  # the cornea
    bulge = unit(bulge)
    glint = (bulge * half).sum(0).clamp(min=0) ** 130 * step(top - y, 0.0, 0.03)
    return lit + 1.3 * light.lamp * glint


def _surface(faces: Faces, normal: Tensor, gaze: Tensor, from_axis: Tensor) -> Tensor:
    """Albedo of white, iris and pupil, [3, B, M]."""
    device = normal.device
    white = torch.tensor([0.5, 0.455, 0.435], device=device)[:, None, None]
    place = (identity_column(faces, "iris_colour") * 0.5 + 0.5) * (len(_IRIS_COLORS) - 1)
    table = torch.tensor(_IRIS_COLORS, device=device)
    low = place.floor().long().clamp(max=len(table) - 2)
    iris = torch.lerp(table[low], table[low + 1], (place - low)[:, None]).T[..., None]
    side = normal - gaze
    angle = torch.atan2(side[1], side[0])
    streaks = noise(angle * 5, from_axis * 1.5)
    iris = iris * (0.75 + 0.7 * streaks) * (1.25 - 0.55 * step(from_axis, 0.7, 1.0)) * (1.1 - 0.5 * side[1] / 0.4)
    colour = mix(iris, white, step(from_axis, 0.9, 1.12))
    return colour * (0.06 + 0.94 * step(from_axis, 0.38, 0.56))
