"""The rigged model: points read, moved and shown."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...faces.alignment import Squares
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
            result, cover = pasted(result, patch)
            share = share * (1 - cover)
        return Shown(result, warped, motion, flow, patches, share)


def pasted(frames: Tensor, patch: Patch) -> tuple[Tensor, Tensor]:
    """As :func:`.closeups.paste`, and returns the same; looks only at the part of the frames where the patch is."""
    height, (middle, side, angle) = frames.shape[-1], patch.squares
    scale = height / patch.size
    middle, side = scale * middle, scale * side
    # sampled bilinearly, a patch of 40 pixels goes on for half a pixel
    reach = (1.05 / 2 * side * (angle.cos().abs() + angle.sin().abs()))[:, None]
    edges = torch.stack([(middle - reach).amin(0).floor(), (middle + reach).amax(0).ceil()])
    low, high = edges.nan_to_num().tolist()  # what is not finite is told of the result
    length = min(height, int(max(end - start for start, end in zip(low, high, strict=True))) + 1)
    left, top = (min(max(0, int(start)), height - length) for start in low)
    window = (..., slice(top, top + length), slice(left, left + length))
    squares = Squares(middle - middle.new_tensor([left, top]), side, angle)
    result, cover = frames.clone(), frames.new_zeros(len(frames), 1, height, height)
    result[window], cover[window] = paste(frames[window], patch._replace(squares=squares, size=length))
    return result, cover


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
