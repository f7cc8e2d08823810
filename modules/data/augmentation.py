"""Random changes to frames: FOMM's augmentations, made second views of a photograph, and the views the losses compare.

Frames are float32 in [0, 1].  Coordinates are (x, y) in [-1, 1], corners at the centres of the corner pixels
(``align_corners=True``).  A warp is a sampling grid: it says for each output pixel where in the input it comes from.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from ..config.data import AugmentationParams, JitterParams, MovementParams
from ..geometry import sample, solve

TPS_POINTS = 5  # control points along each side of the thin-plate warp


# --- FOMM's augmentations: one draw for all frames of an item ---------------------------------------------------------


def augment(frames: Tensor, params: AugmentationParams, rng: np.random.Generator) -> Tensor:
    """Flip, rotate, resize, crop and colour-jitter [F, 3, H, W] frames, all of them in the same way.

    A part whose section of ``params`` is None is left out.  The result has the size ``crop_param`` names, else the
    size that came in.  ``time_flip`` is about the order of frames and belongs to whoever chooses them.
    """
    height, width = frames.shape[-2:]
    if params.flip_param is not None and params.flip_param.horizontal_flip and rng.random() < 0.5:
        frames = V.horizontal_flip(frames)
    if params.rotation_param is not None:
        degrees = params.rotation_param.degrees
        low, high = degrees if isinstance(degrees, tuple) else (-degrees, degrees)
        angle = math.radians(rng.uniform(low, high))
        frames = warp(frames, affine_grid(_similarity(torch.tensor([angle]), torch.ones(1), frames), frames))
    if params.resize_param is not None:
        ratio = rng.uniform(*params.resize_param.ratio)
        frames = V.resize(frames, [max(1, round(height * ratio)), max(1, round(width * ratio))], antialias=True)
    if params.crop_param is not None:
        height, width = params.crop_param.size
    if frames.shape[-2:] != (height, width):
        frames = _random_crop(frames, height, width, rng)
    if params.movement_param is not None and rng.random() < params.movement_param.probability:
        frames = _move_each(frames, params.movement_param, rng)
    if params.jitter_param is not None:
        frames = _colour_jitter(frames, params.jitter_param, rng)
    return frames


def _move_each(frames: Tensor, params: MovementParams, rng: np.random.Generator) -> Tensor:
    """Turn, scale and shift every frame by itself: heads of well-cropped clips hardly leave their place."""

    def draw(limit: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(-limit, limit, (len(frames), *shape))).float()

    theta = _similarity(draw(math.radians(params.degrees)), 1 + draw(params.scale), frames)
    theta[:, :, 2] = draw(params.translation, 2)
    return warp(frames, affine_grid(theta, frames))


def _random_crop(frames: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """A random window of the given size; frames that are too small are first padded with their edges."""
    down, across = max(0, height - frames.shape[-2]), max(0, width - frames.shape[-1])
    if down or across:
        frames = V.pad(frames, [across // 2, down // 2, across - across // 2, down - down // 2], padding_mode="edge")
    top = int(rng.integers(frames.shape[-2] - height + 1))
    left = int(rng.integers(frames.shape[-1] - width + 1))
    return frames[..., top : top + height, left : left + width]


def _colour_jitter(frames: Tensor, params: JitterParams, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue in random order, ranges as in torchvision's ``ColorJitter``."""
    adjustments = []
    for name in ("brightness", "contrast", "saturation"):
        if strength := getattr(params, name):
            adjustments.append((getattr(V, f"adjust_{name}"), rng.uniform(max(0.0, 1 - strength), 1 + strength)))
    if params.hue:
        adjustments.append((V.adjust_hue, rng.uniform(-params.hue, params.hue)))
    for i in rng.permutation(len(adjustments)):
        adjust, factor = adjustments[i]
        frames = adjust(frames, factor)
    return frames


# --- views: a draw of its own for every image of a batch --------------------------------------------------------------


def made_view(photos: Tensor, generator: torch.Generator) -> Tensor:
    """A second view of each of [B, 3, H, W] photographs: moved, turned, gently warped, under a slightly other light.

    Only slightly: photograph and view become source and driving frame, and no generator can guess a colour.
    """
    with _float32(photos):
        draw = _Draw(len(photos), generator, photos.device)
        theta = _similarity(draw.uniform(-math.radians(15), math.radians(15)), draw.uniform(0.85, 1.15), photos)
        theta[:, :, :2] += draw.uniform(-0.05, 0.05, (2, 2))  # a little shear and stretch
        theta[:, :, 2] = draw.uniform(-0.1, 0.1, (2,))
        grid = affine_grid(theta, photos) + thin_plate_offsets(draw.normal(0.04, (TPS_POINTS**2, 2)), photos)
        return _recolour(warp(photos.float(), grid), draw, strength=0.08, hue=0.01)


def colour_view(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Each of [B, 3, H, W] frames in other colours and light; nothing in it moves.  Runs on the frames' device."""
    with _float32(frames):
        return _recolour(frames.float(), _Draw(len(frames), generator, frames.device), strength=0.3, hue=0.5)


def semantic_view(frames: Tensor, generator: torch.Generator) -> Tensor:
    """A view of [B, 3, H, W] frames that keeps what the face does and destroys how it looks and is built.

    Colour, blur, grey and proportions change, but nothing is mirrored or turned: left stays left, and a nod a nod.
    Proportions change by less than an expression changes them, or the contrast could not be told by expression.
    Two views of one frame are a positive pair of the semantic contrast.  Runs on the frames' device.
    """
    with _float32(frames):
        draw = _Draw(len(frames), generator, frames.device)
        theta = torch.zeros(len(frames), 2, 3, device=frames.device)
        theta[:, 0, 0], theta[:, 1, 1] = draw.uniform(0.95, 1.04), draw.uniform(0.95, 1.04)
        theta[:, :, 2] = draw.uniform(-0.02, 0.02, (2,))
        grid = affine_grid(theta, frames) + thin_plate_offsets(draw.normal(0.008, (TPS_POINTS**2, 2)), frames)
        views = _recolour(warp(frames.float(), grid), draw, strength=0.4, hue=0.5)
        grey = V.rgb_to_grayscale(views, num_output_channels=3)
        views = torch.where(draw.uniform(0, 1, (1, 1, 1)) < 0.2, grey, views)
        largest = 0.7 * frames.shape[-1] / 64  # pixels: more would wipe out the eyelids
        return _blur(views, draw.uniform(0.1, 1.0) * largest, largest)


def similarity_view(frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn (up to 20 degrees), scale (0.85 to 1.15) and shift (up to 0.1) each of [B, 3, H, W] frames.

    Returns the views and ``theta`` [B, 2, 3], which maps a point of the view to its place in the frame:
    ``view(p) = frame(theta @ [x, y, 1])``.  Angles and scales hold in pixels, for frames that are not square too.
    """
    with _float32(frames):
        draw = _Draw(len(frames), generator, frames.device)
        angle, scale = draw.uniform(-math.radians(20), math.radians(20)), draw.uniform(0.85, 1.15)
        theta = _similarity(angle, scale, frames)
        theta[:, :, 2] = draw.uniform(-0.1, 0.1, (2,))
        return warp(frames.float(), affine_grid(theta, frames)), theta


class _Draw:
    """Random numbers for a batch, on its device; the generator may live on another (a seeded one on the CPU)."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device):
        self.batch, self.generator, self.device = batch, generator, device

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        values = torch.rand(self.batch, *shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * values.to(self.device)

    def normal(self, deviation: float, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(self.batch, *shape, generator=self.generator, device=self.generator.device)
        return deviation * values.to(self.device)


def _float32(frames: Tensor) -> torch.autocast:
    """Grids in half precision are off by whole pixels; so no autocast here."""
    return torch.autocast(frames.device.type, enabled=False)


# --- geometry and colour of the views ---------------------------------------------------------------------------------


def warp(frames: Tensor, grid: Tensor) -> Tensor:
    """Sample [B, 3, H, W] frames at a [B or 1, H, W, 2] grid; beyond the border the edge continues."""
    return sample(frames, grid.expand(len(frames), -1, -1, -1), padding_mode="border")


def affine_grid(theta: Tensor, frames: Tensor) -> Tensor:
    """[B, 2, 3] transforms -> [B, H, W, 2] sampling grids of the frames' size."""
    return F.affine_grid(theta, [len(theta), 1, *frames.shape[-2:]], align_corners=True)


def _similarity(angle: Tensor, scale: Tensor, frames: Tensor) -> Tensor:
    """[B] angles (radians) and scales -> [B, 2, 3]; they hold in pixels, whatever the proportions of the frames."""
    aspect = (frames.shape[-1] - 1) / (frames.shape[-2] - 1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    zero = torch.zeros_like(cos)
    return torch.stack([torch.stack([cos, -sin / aspect, zero], -1), torch.stack([sin * aspect, cos, zero], -1)], -2)


def thin_plate_offsets(displacements: Tensor, frames: Tensor) -> Tensor:
    """[B, K*K, 2] displacements of a regular grid of K x K points -> [B, H, W, 2] smooth ones for every pixel."""
    points = math.isqrt(displacements.shape[1])
    height, width = frames.shape[-2:]
    basis = _thin_plate_basis(points, height, width, displacements.device)
    return (basis @ displacements).unflatten(1, (height, width))


@lru_cache(maxsize=8)
def _thin_plate_basis(points: int, height: int, width: int, device: torch.device) -> Tensor:
    """[H*W, K*K] matrix of the thin-plate spline: it is linear in the displacements, so it is solved only once.

    The spline is a + b x + c y + sum_i w_i r_i^2 log r_i through the control points, with the w orthogonal to affine
    functions (Bookstein, 1989).
    """

    def lattice(rows: int, columns: int) -> Tensor:
        y, x = torch.linspace(-1, 1, rows).double(), torch.linspace(-1, 1, columns).double()
        return torch.cartesian_prod(y, x).flip(-1)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        square = (a[:, None] - b[None]).square().sum(-1)
        return 0.5 * torch.xlogy(square, square)

    control, pixels = lattice(points, points), lattice(height, width)
    affine = torch.cat([torch.ones(len(control), 1), control], 1)
    corner = torch.zeros(3, 3)
    system = torch.cat([torch.cat([kernel(control, control), affine], 1), torch.cat([affine.T, corner], 1)])
    weights = solve(system, torch.eye(len(system), len(control), dtype=system.dtype))
    rows = torch.cat([kernel(pixels, control), torch.ones(len(pixels), 1), pixels], 1)
    return (rows @ weights).float().to(device)


def _recolour(images: Tensor, draw: _Draw, strength: float, hue: float) -> Tensor:
    """Random saturation, hue (in turns), contrast, colour of the light, brightness and gamma, clamped to [0, 1].

    Hue is a rotation about the grey axis of RGB: as good as HSV's for this, and one matrix per image.
    """
    turn = 2 * math.pi * draw.uniform(-hue, hue)[:, None, None]
    axis = 1 / math.sqrt(3)
    cross = images.new_tensor([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]])
    grey = images.new_full((3, 3), 1 / 3)
    chroma = torch.eye(3, device=images.device) - grey
    rotation = grey + draw.uniform(1 - strength, 1 + strength, (1, 1)) * (turn.cos() * chroma + turn.sin() * cross)
    light = draw.uniform(1 - strength / 2, 1 + strength / 2, (3, 1))
    mean = images.mean((2, 3), keepdim=True)
    contrasted = mean + (images - mean) * draw.uniform(1 - strength, 1 + strength, (1, 1, 1))
    brightness = draw.uniform(-strength / 2, strength / 2, (1, 1, 1))
    coloured = torch.einsum("bij,bjhw->bihw", light * rotation, contrasted) + brightness
    gamma = torch.exp(draw.uniform(-strength, strength, (1, 1, 1)))
    return coloured.clamp(1e-4, 1) ** gamma


def _blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur each image with a Gaussian of its own [B] ``sigma`` (pixels, at most ``largest``)."""
    batch, channels = images.shape[:2]
    radius = max(1, math.ceil(2.5 * largest))
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # [B*C, taps]
    planes = F.pad(images.flatten(0, 1)[None], [radius] * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
    return planes[0].unflatten(0, (batch, channels))


def softened(images: Tensor) -> Tensor:
    """``[B, 3, H, W]`` each blurred by a random share (of the global random state): made pictures are too sharp."""
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    return torch.lerp(images, blurred, torch.rand(len(images), 1, 1, 1, device=images.device))


def noisy(images: Tensor, most: float = 0.03) -> Tensor:
    """``[B, 3, H, W]`` each with noise of a random deviation up to ``most``, in [0, 1]: made pictures have none."""
    deviation = most * torch.rand(len(images), 1, 1, 1, device=images.device)
    return (images + deviation * torch.randn_like(images)).clamp(0, 1)
