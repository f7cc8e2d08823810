"""Keeping what a photograph does not show out of the frame: beyond its edges, and on the far side of the head."""

from __future__ import annotations

import torch
from torch import Tensor

from ..draws import FACE_CENTRE
from .mesh import HIGH, LOW, SHEET
from .posing import Posed, pose_puppets
from .puppet import Puppets, few_places
from .states import States

LARGEST = 1.7  # scale up to which a face is brought nearer, so that the photograph's edges stay outside
_EDGE = 1 - 1.01 * 2 * (HIGH - LOW) / (SHEET - 1)  # vertices of the sheet beyond it lie along a photograph's edge
_TURN = 30.0  # degrees of yaw from a photograph's, beyond which a cheek is stretched out of what it shows of it
_HEADROOM = 0.92  # how far up brows may be shifted, in half frames


def framed(states: States, *casts: Puppets) -> States:
    """States nearer, higher and less turned where a puppet of one of the ``casts`` (B each) would else be seen cut off.

    All casts get the same states: pairs of people stay pairs.  Where even :data:`LARGEST` does not do, the cut is seen.
    """
    own = torch.stack([puppets.pose[:, 0] for puppets in casts])
    pose = states.pose.clone()
    pose[:, 0] = torch.minimum(torch.maximum(pose[:, 0], own.amax(0) - _TURN), own.amin(0) + _TURN)
    states = states._replace(pose=pose)
    scale, lift = pose[:, 5], torch.zeros(states.size, device=states.pose.device)
    for puppets in casts:
        scale = torch.maximum(scale, _needed_scale(puppets, states))
    nearer = _scaled(states, scale.clamp(max=LARGEST))
    for puppets in casts:
        lift = torch.maximum(lift, _needed_lift(puppets, nearer))
    pose = nearer.pose.clone()
    pose[:, 4] -= lift
    return nearer._replace(pose=pose)


def _scaled(states: States, scale: Tensor) -> States:
    pose = states.pose.clone()
    pose[:, 4] += FACE_CENTRE * (scale - pose[:, 5])
    pose[:, 5] = scale
    return states._replace(pose=pose)


def _edges(puppets: Puppets, posed: Posed) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices along the photographs' edges: places in the frame [B, N, 2], in the photograph, and if a person is."""
    heads = puppets.seen.shape[1]
    place, texture = posed.points[:, heads:], puppets.texture[:, heads:]
    along = (texture.abs().amax(-1) > _EDGE) & (texture.abs().amax(-1) <= 1)
    # a little inwards: a matte is cleared along the photograph's upper edge
    there = few_places(puppets.photo[:, 3:4], 0.97 * texture)[..., 0] > 0.5
    return place, texture, along & there & torch.isfinite(place[..., 0])


def _needed_scale(puppets: Puppets, states: States) -> Tensor:
    place, texture, is_cut = _edges(puppets, pose_puppets(puppets, states))
    centre = torch.stack([states.pose[:, 3], states.pose[:, 4] - FACE_CENTRE * states.pose[:, 5]], 1)[:, None]
    from_centre = (place - centre) / states.pose[:, 5, None, None]
    needed = torch.zeros(states.size, device=place.device)
    for axis in (0, 1):
        for side in (-1.0, 1.0):
            way = side * from_centre[..., axis]
            chosen = is_cut & (side * texture[..., axis] > _EDGE) & (way > 0.2)
            room = (1 - side * centre[..., axis]) / way.clamp(min=0.2)
            needed = torch.maximum(needed, torch.where(chosen, room, 0.0).amax(1))
    return needed


def _needed_lift(puppets: Puppets, states: States) -> Tensor:
    """How much higher the upper edge has to go to be out of the frame, if the brows stay in it."""
    posed = pose_puppets(puppets, states)
    place, texture, is_cut = _edges(puppets, posed)
    chosen = is_cut & (-texture[..., 1] > _EDGE)
    needed = torch.where(chosen, place[..., 1] + 1, 0.0).amax(1).clamp(min=0)
    room = (posed.landmarks[:, 17:27, 1].amin(1) + _HEADROOM).clamp(min=0)
    return torch.minimum(needed, room)
