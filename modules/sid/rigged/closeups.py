"""Painting mouth and eyes, looked at closely: teeth, tongue, lids and eyes that no warp of the source shows."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...faces.alignment import Squares
from ...world.puppets.states import IN_MIRROR
from ..encoders import Semantics
from ..generator import FiLM
from .codes import EXPRESSION, POSE
from .motion import cells
from .parts import EYES, MOUTH, Part, cut, part_square

SPREAD = 0.035  # of a point in the maps, in the square's sides
RIM = 0.15  # of the square's side, over which what is painted fades


class Patch(NamedTuple):
    """A painted square of B frames.

    Attributes:
        colour: [B, 3, S, S] in [0, 1].
        cover: [B, 1, S, S] in [0, 1], how much of it is shown.
        squares: where, in pixels of frames of ``size``.
        size: pixels of a frame's side.
        mirrored: whether the square is seen in a mirror.
    """

    colour: Tensor
    cover: Tensor
    squares: Squares
    size: int
    mirrored: bool


def paste(frames: Tensor, patch: Patch) -> tuple[Tensor, Tensor]:
    """Frames ``[B, 3, H, H]`` of any size with a patch in its place, and its cover there, ``[B, 1, H, H]``.

    Only the part of the frames where the patch is gets looked at.
    """
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
    result[window], cover[window] = paste_everywhere(frames[window], patch._replace(squares=squares, size=length))
    return result, cover


def paste_everywhere(frames: Tensor, patch: Patch) -> tuple[Tensor, Tensor]:
    """As :func:`paste`, of frames of which the patch is a large part."""
    half = patch.size / 2
    middle, side, angle = patch.squares
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    offset = cells(frames.shape[-1], frames) - (middle / half - 1)[:, None, None]
    reach = (side / (2 * half))[:, None, None]
    x = (offset[..., 0] * cos + offset[..., 1] * sin) / reach
    y = (offset[..., 1] * cos - offset[..., 0] * sin) / reach
    grid = torch.stack([-x if patch.mirrored else x, y], dim=-1)
    there = F.grid_sample(torch.cat([patch.colour, patch.cover], dim=1), grid, align_corners=False)
    colour = F.grid_sample(patch.colour, grid, padding_mode="border", align_corners=False)
    cover = there[:, 3:]
    return torch.lerp(frames, colour, cover), cover


class CloseUp(nn.Module):
    """Paints one part: what the warped source shows there, the source's own, the points, and what is to be shown."""

    def __init__(self, part: Part, width: int = 24) -> None:
        super().__init__()
        features = 3 + 3 + 2 * len(part.rings)
        wide, widest = 2 * width, 3 * width
        self.first = _Block(features, width)
        self.down = nn.ModuleList([_Block(width, wide), _Block(wide, widest)])
        self.middle = nn.ModuleList(_Block(widest, widest) for _ in range(3))
        self.up = nn.ModuleList([_Block(widest, wide), _Block(wide, width)])
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.last.bias.data[3] = -2.0
        line = (torch.arange(part.side) + 0.5) / part.side
        ramp = (torch.minimum(line, 1 - line) / RIM).clamp(max=1)
        self.register_buffer("rim", ramp * ramp[:, None], persistent=False)

    def forward(self, warped: Tensor, own: Tensor, maps: Tensor, says: Tensor) -> tuple[Tensor, Tensor]:
        """``warped`` and ``own [B, 3, S, S]``, ``maps [B, 2R, S, S]``, ``says [B, K]`` -> colour and cover."""
        levels = [self.first(torch.cat([warped, own, maps], dim=1), says)]
        for block in self.down:
            levels.append(block(F.avg_pool2d(levels[-1], 2), says))
        out = levels.pop()
        for block in self.middle:
            out = out + block(out, says)
        for block in self.up:
            out = block(F.interpolate(out, scale_factor=2.0), says) + levels.pop()
        colour, cover = self.last(out).float().split([3, 1], dim=1)
        # near what is there: a network begins as good as the warp
        return (warped + colour).clamp(0, 1), cover.sigmoid() * self.rim


class _Block(nn.Module):
    FOLDED = (("conv", "norm"),)  # by :func:`..tuned.tuned`

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.film = FiLM(2 * EXPRESSION + POSE, outputs)

    def forward(self, x: Tensor, says: Tensor) -> Tensor:
        return F.silu(self.film(self.norm(self.conv(x)), says))


class CloseUps(nn.Module):
    """Mouth and eyes of a face; the right eye is painted as the left one's mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth, self.eye = CloseUp(MOUTH), CloseUp(EYES[0], 16)

    def forward(
        self, warped: Tensor, image: Tensor, source: Tensor, driven: Tensor, before: Semantics, after: Semantics
    ) -> list[Patch]:
        """``warped`` and ``image [B, 3, H, H]``, what is seen so far and the source; ``[B, 468, 3]`` points of both."""
        painted = []
        for part, network in ((MOUTH, self.mouth), *((eye, self.eye) for eye in EYES)):
            shown, squares = (after, before), (part_square(driven, part, warped), part_square(source, part, image))
            if part.mirrored:
                shown = mirrored(after), mirrored(before)
            says = torch.cat([*shown[0], shown[1].expression], dim=1)
            maps = [rings(p, part, at, image.shape[-1]) for p, at in zip((driven, source), squares, strict=True)]
            seen = [cut(frames, at, part) for frames, at in zip((warped, image), squares, strict=True)]
            colour, cover = network(*seen, torch.cat(maps, dim=1), says)
            painted.append(Patch(colour, cover, squares[0], warped.shape[-1], part.mirrored))
        return painted


def mirrored(semantics: Semantics) -> Semantics:
    """What a face shows in a mirror."""
    units, gaze = semantics.expression[:, :-2], semantics.expression[:, -2:]
    left, right = units.chunk(2, dim=1)
    sign = semantics.pose.new_tensor(IN_MIRROR)
    return Semantics(torch.cat([right, left, gaze * sign[:2]], dim=1), semantics.pose * sign)


def rings(points: Tensor, part: Part, squares: Squares, size: int) -> Tensor:
    """Where the rings of a part are in its square, ``[B, R, S, S]`` in [0, 1]."""
    middle, side, angle = squares
    pixels = (points[..., :2] + 1) * (size / 2) - middle[:, None]
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x = (pixels[..., 0] * cos + pixels[..., 1] * sin) / side[:, None]
    y = (pixels[..., 1] * cos - pixels[..., 0] * sin) / side[:, None]
    x = -x if part.mirrored else x
    line = (torch.arange(part.side, device=points.device) + 0.5) / part.side - 0.5
    planes = []
    for ring in part.rings:
        near_x = (-0.5 / SPREAD**2 * (x[:, list(ring), None] - line).square()).exp()
        near_y = (-0.5 / SPREAD**2 * (y[:, list(ring), None] - line).square()).exp()
        planes.append((near_y[..., None] * near_x[:, :, None]).amax(dim=1))
    return torch.stack(planes, dim=1)
