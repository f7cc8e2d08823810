"""Puppets in states -> pictures, with exact flow, validity, face mask, landmarks and codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import coordinate_grid
from .. import camera
from ..raster import rasterise
from ..rendering import AT_ONCE
from ..truth import averaged, is_seen, pixel_flow
from .mesh import mesh
from .paint import Canvas, paint
from .posing import Posed, pose_puppets
from .puppet import Puppets
from .states import States

OVERSAMPLING = 2  # samples per pixel each way
_OPAQUE = 0.5  # of the matte, from which on a pixel is the person's


class Rendering(NamedTuple):
    """Pictures and their truth.

    Attributes:
        image: [B, 3, H, W] in [0, 1].
        flow: [B, H, W, 2] backward flow in [-1, 1]: where what a pixel shows is in the photograph, or in the picture of
            another state.  Beside the person it is the background's.
        valid: [B, 1, H, W] 1 where the flow is the geometric truth and what it points to is seen there: on the person,
            not inside the mouth.  Under lids, folds and changing light colours differ all the same.
        mask: [B, 1, H, W] share of the pixel that is face: skin from the hair to the jaw, eyes and mouth.
        matte: [B, 1, H, W] share that is the person.
        landmarks: [B, 68, 2] in [-1, 1], whether seen or hidden.
        codes: [B, K] the state's numbers, as :data:`.states.CODES`.
    """

    image: Tensor
    flow: Tensor
    valid: Tensor
    mask: Tensor
    matte: Tensor
    landmarks: Tensor
    codes: Tensor


@torch.no_grad()
def render(
    puppets: Puppets,
    states: States,
    size: int,
    *,
    who: Tensor | None = None,
    to: States | None = None,
    donors: Tensor | None = None,
    backgrounds: Tensor | None = None,
) -> Rendering:
    """Draw puppets in states as ``size`` x ``size`` pictures, on the device of the puppets.

    Args:
        puppets: P puppets.
        states: B states.
        size: pixels of a side.
        who: int64 [B] puppet of each state; without it P is B and each has its own.
        to: B states of the same puppets to whose pictures the flow leads; without it, it leads to the photographs.
        donors: int64 [B] puppets whose photographs' teeth are shown; without it each one's own, where seen.
        backgrounds: [B, 3, H, W] in [0, 1] in place of the photographs' own.
    """
    if who is None:
        who = torch.arange(puppets.size, device=puppets.head.device)
    if len(who) != states.size or (to is not None and to.size != states.size):
        raise ValueError(f"{len(who)} puppets and {states.size} states; give each state its puppet")
    if not states.size:
        return _empty(puppets.head, size)
    chunk = max(1, AT_ONCE.get(puppets.head.device.type, AT_ONCE["cpu"]) // size**2)
    parts = []
    for start in range(0, states.size, chunk):
        rows = slice(start, start + chunk)
        chosen = puppets.take(who[rows])
        is_own = torch.ones_like(who[rows], dtype=torch.bool) if donors is None else donors[rows] == who[rows]
        giving = chosen if donors is None or is_own.all() else puppets.take(donors[rows])
        aim = None if to is None else to.take(rows)
        behind = None if backgrounds is None else backgrounds[rows]
        parts.append(_render(chosen, giving, is_own, states.take(rows), aim, size, behind))
    return Rendering(*(torch.cat(values) for values in zip(*parts, strict=True)))


def landmarks(puppets: Puppets, states: States) -> Tensor:
    """[B, 68, 2], what :func:`render` gives, without drawing anything."""
    return pose_puppets(puppets, states).landmarks


def _empty(like: Tensor, size: int) -> Rendering:
    new = like.new_zeros
    plane = new(0, 1, size, size)
    codes = States(new(0, 2, 17), new(0, 2), new(0, 6)).codes
    return Rendering(new(0, 3, size, size), new(0, size, size, 2), plane, plane, plane, new(0, 68, 2), codes)


def _render(
    puppets: Puppets,
    donors: Puppets,
    is_own: Tensor,
    states: States,
    to: States | None,
    size: int,
    behind: Tensor | None,
) -> Rendering:
    side, whole = OVERSAMPLING * size, mesh(puppets.head.device)
    posed = pose_puppets(puppets, states)
    aim = None if to is None else pose_puppets(puppets, to)
    pixels = camera.pixels(posed.points, size) * OVERSAMPLING
    one_sided = torch.zeros(len(whole.triangles), dtype=torch.bool, device=pixels.device)
    nearest, _ = rasterise(pixels, posed.depth, whole.triangles, one_sided, side)
    canvas = paint(puppets, donors, is_own, states, posed, aim, pixels, nearest, side)

    person = averaged(canvas.colour, size)
    plate, lead = _background(puppets, states, to, size) if behind is None else (behind, _still(behind))
    image = person[:, :3] + (1 - person[:, 3:]) * plate
    flow, is_whole = pixel_flow(canvas.flow, size)
    valid = is_whole & (person[:, 3:] >= _OPAQUE) & (flow.abs() <= 1).all(1, keepdim=True)
    if aim is not None:
        valid &= _is_seen(canvas, aim, side, size)
    shown = torch.where((person[:, 3:] >= _OPAQUE) & is_whole, flow, lead).permute(0, 2, 3, 1)
    return Rendering(
        image.clamp(0, 1),
        shown,
        valid.float(),
        averaged(canvas.face, size),
        person[:, 3:],
        posed.landmarks,
        states.codes,
    )


def _is_seen(canvas: Canvas, aim: Posed, side: int, size: int) -> Tensor:
    """bool [B, 1, H, W]: what pixels show is not hidden in the picture that the flow leads to."""
    whole = mesh(aim.points.device)
    one_sided = torch.zeros(len(whole.triangles), dtype=torch.bool, device=aim.points.device)
    pixels = camera.pixels(aim.points, size) * OVERSAMPLING
    _, front = rasterise(pixels, aim.depth, whole.triangles, one_sided, side)
    return is_seen(canvas.flow, canvas.flow_depth, front, size)


def _background(puppets: Puppets, states: States, to: States | None, size: int) -> tuple[Tensor, Tensor]:
    """Backgrounds of the photographs [B, 3, H, W], shifted and zoomed as the pose, and the flow there [B, 2, H, W]."""
    grid = coordinate_grid(size, size, puppets.head)[None]

    def photograph(place: Tensor, pose: Tensor, back: bool = False) -> Tensor:
        zoom = (pose[:, 5] / puppets.pose[:, 5])[:, None, None, None]
        shift, own = pose[:, None, None, 3:5], puppets.pose[:, None, None, 3:5]
        return (place - own) * zoom + shift if back else (place - shift) / zoom + own

    place = photograph(grid, states.pose)
    plate = F.grid_sample(puppets.plate.float(), place, padding_mode="border", align_corners=True) / 255
    lead = place if to is None else photograph(place, to.pose, back=True)
    return plate, lead.permute(0, 3, 1, 2)


def _still(pictures: Tensor) -> Tensor:
    """[B, 2, H, W] the flow of what stands still in pictures [B, C, H, W]."""
    return coordinate_grid(*pictures.shape[2:], pictures).permute(2, 0, 1).expand(len(pictures), -1, -1, -1)
