"""The rigged model: points read, moved and shown."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...training.checkpoint import averaged, load_checkpoint
from ...training.layout import ONE_NETWORK
from ..encoders import Semantics
from .closeups import CloseUps, Patch, paste
from .encoder import PointEncoder
from .motion import MotionNetwork, PointMotion, moved
from .points import FaceMeshPoints
from .rig import Rig


class Shown(NamedTuple):
    """Of B frames: pictures ``[B, 3, H, H]`` in [0, 1], and how they came about.

    Attributes:
        image: the result.
        warped: before mouth and eyes were painted.
        motion: of the whole frame.
        flow: the same flow at the picture's size, ``[B, 2, H, H]``.
        patches: mouth and eyes.
        share: [B, 1, H, H] in [0, 1], how much of each pixel is the source's, moved, and not painted.
    """

    image: Tensor
    warped: Tensor
    motion: PointMotion
    flow: Tensor
    patches: list[Patch]
    share: Tensor


class Generator(nn.Module):
    """A source whose points have moved -> its picture, at the source's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.motion, self.closeups = MotionNetwork(), CloseUps()

    def forward(
        self,
        image: Tensor,
        source: Tensor,
        driven: Tensor,
        before: Semantics,
        after: Semantics,
        kept: Tensor | None = None,
    ) -> Shown:
        """``image [B, 3, H, H]`` with points ``source [B, 468, 3]``, which are to be ``driven``.

        ``kept [G, G]``: how much of its motion each place of the frame keeps; left out: all.
        """
        motion = self.motion(image, source, driven)
        if kept is not None:
            motion = motion._replace(flow=motion.flow * kept)
        size = image.shape[2:]
        shown, painted = (F.interpolate(x, size, mode="bilinear") for x in (motion.shown, motion.painted))
        flow = F.interpolate(motion.flow, size, mode="bicubic", align_corners=False)
        warped = torch.lerp(painted, moved(image, flow), shown)
        patches = self.closeups(warped, image, source, driven, before, after)
        result, share = warped, shown
        for patch in patches:
            result, cover = paste(result, patch)
            share = share * (1 - cover)
        return Shown(result, warped, motion, flow, patches, share)


class RiggedSID(nn.Module):
    """Points, semantic encoder, motion head and generator side by side, as checkpoints name them."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.encoder, self.rig, self.generator = FaceMeshPoints(), PointEncoder(), Rig(), Generator()


def load_rigged(path: str | os.PathLike) -> RiggedSID:
    """A model for inference: evaluation mode, averaged weights where the checkpoint keeps them.  Raises UserError."""
    model = RiggedSID()
    ONE_NETWORK.load(model, averaged(load_checkpoint(path)), path)
    return model.eval().requires_grad_(False)
