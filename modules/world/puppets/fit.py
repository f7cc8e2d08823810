"""Fit the face world's head to landmarks of photographs: who it is, the pose, the lids, and the expression."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import camera
from ..geometry import constants
from ..parameters import ACTION_UNITS, IDENTITY
from .marks import JAW, MEETING, bases, marks, open_lids, slid
from .mesh import unit_fields

# Identity parameters that are not a matter of geometry, or that landmarks do not tell.
_PAINTED = {
    "brow_thickness", "ear_size", "neck_width", "lid_fold", "skin_tone", "skin_hue", "lip_colour", "iris_colour",
    "freckles", "age",
}  # fmt: skip
_SHAPED = [i for i, name in enumerate(IDENTITY) if name not in _PAINTED]
_STEP = (10.0, 10.0, 10.0, 0.1, 0.1, 0.1)  # of the pose's numbers, what the optimiser counts in
_ANCHOR = (0.0, -0.4, 1.4)  # about this point poses are fitted: about the pivot, a turn would also shift the face
_PITCH_SPREAD = 10.0  # degrees, of a prior: landmarks tell a tilt from a long face badly
_NOSE_YAW = 60.0  # degrees of yaw for each interocular distance that the nose's tip is off the middle
_KNOWN = 0.25  # of the prior of expressions, where the head is known: its shape explains nothing then
_EXPLAINED = 0.01  # interocular distances that an expression brings the landmarks nearer, from which on it is one
OPEN = 0.09  # interocular distances between the lips, from which on a mouth is open
_ASIDE = 0.33  # interocular distances that the nose's tip may be off the middle; then its far side is not seen
WRECKED = 0.09  # interocular distances that the landmarks within the face are off, in the mean, at most


class Fit(NamedTuple):
    """Heads fitted to B photographs.

    Attributes:
        landmarks: [B, 68, 2] of the photographs, in [-1, 1].
        identity: [B, I] as :data:`..parameters.IDENTITY`; 0 where landmarks do not tell.
        units: [B, 2, A] action units of the person's left and right side, in [0, 1].
        lids: [B, 2, 2] heights of upper and lower lids, the eye at the left of the picture first.
        pose: [B, 6].
        residual: [B, 68] how far landmarks are off, in interocular distances.
    """

    landmarks: Tensor
    identity: Tensor
    units: Tensor
    lids: Tensor
    pose: Tensor
    residual: Tensor

    @property
    def error(self) -> Tensor:
        """[B] mean residual of the landmarks within the face."""
        return self.residual[:, JAW:].mean(1)

    def take(self, index: Tensor | slice) -> Fit:
        """The fits at ``index``."""
        return Fit(*(value[index] for value in self))

    def heads(self) -> Tensor:
        """[B, R, C, 3] heads with the photographs' expressions."""
        fixed = constants(self.pose.device)
        shape = self.identity @ fixed.identity + self.units.flatten(1) @ unit_fields(self.pose.device)
        return fixed.mean + shape.view(-1, *fixed.mean.shape)


def interocular(landmarks: Tensor) -> Tensor:
    """[B] distances between the middles of the eyes."""
    return (landmarks[:, 42:48].mean(1) - landmarks[:, 36:42].mean(1)).norm(dim=1)


def fit(
    landmarks: Tensor,
    *,
    expressions: bool | Tensor = False,
    heads: Tensor | None = None,
    start: Fit | None = None,
    steps: int = 150,
) -> Fit:
    """Fit all photographs in one batch, by Adam.

    Args:
        landmarks: [B, 68, 2] in iBUG's order, in [-1, 1] on the photographs (middles of the outermost pixels).
        expressions: fit action units too, of all or, bool [B], of some; other faces are taken to be neutral.
        heads: [B, R, C, 3] known heads without expression, in place of the mean head and an identity.
        start: one fit whose lids are where those of all photographs are first looked for.
        steps: of Adam.
    """
    device, count = landmarks.device, len(landmarks)
    moving = torch.as_tensor(expressions, device=device).expand(count)
    model, (mean, identities, unit_points) = marks(device), bases(device)
    known = None if heads is None else model.points(heads)
    first, distance = _first_pose(landmarks), interocular(landmarks)
    identity = torch.zeros(count, len(_SHAPED), device=device)
    units = torch.zeros(count, 2, len(ACTION_UNITS), device=device)
    change = torch.zeros_like(first)
    lids = open_lids(count, device) if start is None else start.lids.repeat(count, 1, 1)
    groups = [(change, 0.06), (lids, 0.004)]
    groups += [] if known is not None else [(identity, 0.03)]
    groups += [(units, 0.02)] if moving.any() else []
    for values, _ in groups:
        values.requires_grad_(True)
    optimiser = torch.optim.Adam([{"params": [values], "lr": rate} for values, rate in groups])
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.1 ** (1 / steps))
    weight, stride = _weights(device), torch.tensor(_STEP, device=device)

    def residual() -> tuple[Tensor, Tensor]:
        points = known
        if points is None:
            points = mean + torch.einsum("bi,inc->bnc", identity, identities[_SHAPED])
        if moving.any():
            points = points + torch.einsum("bu,unc->bnc", units.flatten(1), unit_points)
        pose = _about_pivot(first + change * stride)
        seen = camera.view(model.landmarks(points, lids), pose, torch.ones(68, device=device)).points
        return (slid(seen, landmarks)[0] - landmarks) / distance[:, None, None], pose

    with torch.enable_grad():
        for _ in range(steps):
            off, pose = residual()
            loss = 0.3 * (weight * (off**2 + 0.01**2).sum(-1).sqrt()).sum()
            loss = loss + 0.06 * (identity**2).sum() + _pose_prior(pose, known is not None)
            if moving.any():
                loss = loss + (1 if known is None else _KNOWN) * _expression_prior(units)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
            with torch.no_grad():
                lids[:, 0].clamp_(MEETING, 0.25)
                lids[:, 1].clamp_(-0.03, 0.2)
                lids[:, 1].copy_(torch.maximum(lids[:, 1], -lids[:, 0]))
                units.clamp_(0, 1).mul_(moving[:, None, None])
    with torch.no_grad():
        off, pose = residual()
        whole = torch.zeros(count, len(IDENTITY), device=device)
        whole[:, _SHAPED] = identity
        return Fit(landmarks, whole, units.detach(), lids.detach(), pose, off.norm(dim=-1))


def fit_photographs(landmarks: Tensor, steps: int = 150) -> Fit:
    """Fit photographs of which nobody says if they are neutral; arguments and result as of :func:`fit`.

    A face is neutral unless its mouth is open or an expression explains its landmarks far better: what a person's shape
    does is not to be taken for an expression.
    """
    count = len(landmarks)
    moving = torch.arange(2 * count, device=landmarks.device) >= count
    both = fit(landmarks.repeat(2, 1, 1), expressions=moving, steps=steps)
    neutral, moved = both.take(slice(count)), both.take(slice(count, None))
    gap = (landmarks[:, 66, 1] - landmarks[:, 62, 1]) / interocular(landmarks)
    has_expression = (gap > OPEN) | (neutral.error - moved.error > _EXPLAINED)
    return Fit(
        *(torch.where(has_expression.view(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(neutral, moved, strict=True))
    )


def faults(found: Fit) -> list[str]:
    """Why each of the fits is of no use, in words; "" where it is."""
    yaw, pitch, roll, x, y, scale = found.pose.T.cpu()
    worst = found.residual[:, JAW:].amax(1).cpu()
    outside = (found.landmarks.abs() > 1).any(-1).any(-1).cpu()
    aside = _nose_aside(found.landmarks).cpu()
    small = interocular(found.landmarks).cpu() < 0.12
    said = []
    for i, error in enumerate(found.error.cpu()):
        reasons = {
            # the fit takes a head that is turned further for a less turned one with a long nose
            f"the head is turned too far (the nose is {aside[i]:+.2f} of the eyes' distance aside; at most {_ASIDE})": (
                bool(aside[i].abs() > _ASIDE)
            ),
            f"the head does not fit the landmarks (off by {error:.2f} of the eyes' distance)": not error <= WRECKED,
            f"a landmark is off by {worst[i]:.2f} of the eyes' distance": not worst[i] <= 4 * WRECKED,
            f"the head is turned too far ({yaw[i]:.0f} degrees; at most 25)": bool(yaw[i].abs() > 25),
            f"the head is tilted too far ({pitch[i]:.0f} degrees; at most 25)": bool(pitch[i].abs() > 25),
            f"the head leans too far ({roll[i]:.0f} degrees; at most 40)": bool(roll[i].abs() > 40),
            "the face reaches beyond the picture": bool(outside[i]),
            "the face is too small in the picture": bool(small[i]),
        }
        said.append(next((reason for reason, holds in reasons.items() if holds), ""))
    return said


def _nose_aside(landmarks: Tensor) -> Tensor:
    """[B] how far the nose's tip is off the middle of the eyes, along their line, in their distances."""
    right, left = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    axis, middle = left - right, (left + right) / 2
    return ((landmarks[:, 30] - middle) * axis).sum(1) / axis.square().sum(1)


def _first_pose(landmarks: Tensor) -> Tensor:
    axis = landmarks[:, 42:48].mean(1) - landmarks[:, 36:42].mean(1)
    distance = axis.norm(dim=1)
    yaw = (_NOSE_YAW * _nose_aside(landmarks)).clamp(-35, 35)
    roll = torch.rad2deg(torch.atan2(axis[:, 1], axis[:, 0]))
    scale = distance * camera.HALF_FRAME / torch.deg2rad(yaw).cos()
    anchor = landmarks[:, 27:68].mean(1)
    return torch.stack([yaw, torch.zeros_like(yaw), roll, anchor[:, 0], anchor[:, 1], scale], 1)


def _about_pivot(pose: Tensor) -> Tensor:
    """Poses whose (x, y) says where the anchor is seen, as poses whose (x, y) shifts the frame."""
    anchor = torch.tensor(_ANCHOR, device=pose.device).expand(len(pose), 1, 3)
    unshifted = torch.cat([pose[:, :3], torch.zeros_like(pose[:, 3:5]), pose[:, 5:]], 1)
    seen = camera.view(anchor, unshifted, torch.ones(1, device=pose.device)).points[:, 0]
    return torch.cat([pose[:, :3], pose[:, 3:5] - seen, pose[:, 5:]], 1)


def _weights(device: torch.device) -> Tensor:
    weight = torch.ones(68, device=device)
    weight[:JAW] = 0.35
    weight[[0, 1, 15, 16]] = 0.15
    weight[36:48] = 1.5
    weight[48:] = 1.3
    return weight


def _pose_prior(pose: Tensor, shape_is_known: bool) -> Tensor:
    if shape_is_known:
        return pose.new_zeros(())
    return 0.25 * (pose[:, 1] / _PITCH_SPREAD).square().sum() + 0.02 * (pose[:, 0] / 10).square().sum()


def _expression_prior(units: Tensor) -> Tensor:
    uneven = (units[:, 0] - units[:, 1]).square().sum()
    return 0.03 * units.sum() + 0.05 * units.square().sum() + 0.1 * uneven
