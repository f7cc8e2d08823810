"""Grids, Gaussians, sampling, shrinking, and random affine + thin-plate transforms.

Coordinates are ``[..., (x, y)]`` in [-1, 1]; -1 and 1 are the *centres* of the outermost pixels, so every sampling
here uses ``align_corners=True``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def full_precision(x: Tensor) -> Tensor:
    """Half-precision tensors as float32, others unchanged: coordinates do not survive 8 bits of mantissa."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def solve(matrix: Tensor, wanted: Tensor) -> Tensor:
    """``torch.linalg.solve`` of ``[..., N, N]`` and ``[..., N, C]``, on a CPU in one thread.

    MKL's LU, which PyTorch 2.14 brings, was seen to give wrong solutions and to wait for ever with two threads, from
    N = 128 on.  Systems of this size are solved in a millisecond.
    """
    threads = torch.get_num_threads()
    if matrix.device.type != "cpu" or threads == 1:
        return torch.linalg.solve(matrix, wanted)
    torch.set_num_threads(1)
    try:
        return torch.linalg.solve(matrix, wanted)
    finally:
        torch.set_num_threads(threads)


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres of an image as ``[height, width, 2]`` in [-1, 1], with the dtype and device of ``like``."""
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)


def gaussian_heatmaps(points: Tensor, height: int, width: int, variance: float) -> Tensor:
    """Unnormalised Gaussians around points ``[B, K, 2]`` as ``[B, K, height, width]`` (FOMM eq. 6)."""
    grid = coordinate_grid(height, width, points)
    squared = (grid - points[:, :, None, None, :]).square().sum(-1)
    return torch.exp(-0.5 * squared / variance)


def sample(image: Tensor, grid: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Bilinear ``image [B, C, H, W]`` at ``grid [B, h, w, 2]``, in full precision.

    A grid in bfloat16 would be off by an eighth of a pixel at 64 pixels, by a whole one at 512: results would blur.
    """
    sampled = F.grid_sample(full_precision(image), full_precision(grid), padding_mode=padding_mode, align_corners=True)
    return sampled.to(image.dtype)


def resize_grid(grid: Tensor, height: int, width: int, align_corners: bool = False) -> Tensor:
    """A sampling grid ``[B, h, w, 2]`` at another resolution, bilinear.

    FOMM's weights expect half-pixel resizing, which shifts the picture by up to half a coarse pixel; with
    ``align_corners``, as everything else here counts, the identity stays the identity.
    """
    if grid.shape[1:3] == (height, width):
        return grid
    resized = F.interpolate(
        grid.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", align_corners=align_corners
    )
    return resized.permute(0, 2, 3, 1)


class AntiAliasDownsample(nn.Module):
    """Gaussian blur, then every ``1/scale``-th pixel: ``[B, 3, H, W] -> [B, 3, H*scale, W*scale]``."""

    def __init__(self, scale: float):
        super().__init__()
        self.step = int(1 / scale)
        sigma = (1 / scale - 1) / 2
        size = 2 * round(sigma * 4) + 1
        offsets = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        # scale 1 has sigma 0 and one tap: the ratio 0/0 is the identity kernel
        line = torch.exp(-(offsets**2) / (2 * sigma**2)) if sigma else torch.ones(1)
        kernel = torch.outer(line, line)
        self.register_buffer("weight", (kernel / kernel.sum()).repeat(3, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.step == 1:
            return x
        channels, _, size, _ = self.weight.shape
        # a stride visits the same centres as blurring everything and then slicing, at a fraction of the work
        return F.conv2d(x, self.weight.to(x.dtype), padding=size // 2, stride=self.step, groups=channels)


@dataclass
class RandomTransform:
    """A random affine map with a thin-plate spline on top (FOMM section 3.3, "equivariance").

    Attributes:
        theta: affine part, ``[B, 2, 3]``.
        control_points: spline centres, ``[P, 2]``, or None for a purely affine map.
        control_params: spline weights, ``[B, 1, P]``, or None.
    """

    theta: Tensor
    control_points: Tensor | None = None
    control_params: Tensor | None = None

    @classmethod
    def draw(
        cls,
        batch: int,
        like: Tensor,
        sigma_affine: float,
        sigma_tps: float | None = None,
        points_tps: int | None = None,
    ) -> RandomTransform:
        """Draw ``batch`` transforms from the global random state, with the dtype and device of ``like``."""
        options = {"dtype": like.dtype, "device": like.device}
        theta = torch.eye(2, 3, **options) + sigma_affine * torch.randn(batch, 2, 3, **options)
        if not (sigma_tps and points_tps):
            return cls(theta)
        points = coordinate_grid(points_tps, points_tps, like).reshape(-1, 2)
        return cls(theta, points, sigma_tps * torch.randn(batch, 1, len(points), **options))

    def warp_points(self, points: Tensor) -> Tensor:
        """Map points ``[B or 1, N, 2]`` to ``[B, N, 2]``."""
        linear, shift = self.theta[:, None, :, :2], self.theta[:, None, :, 2]
        # multiplied and summed: autocast would compute a matrix product in half precision
        warped = (linear * points[:, :, None, :]).sum(-1) + shift
        if self.control_points is None:
            return warped
        distance = (points[:, :, None] - self.control_points).abs().sum(-1)
        spline = (distance.square() * torch.log(distance + 1e-6) * self.control_params).sum(-1, keepdim=True)
        return warped + spline  # one scalar moves both coordinates, as FOMM has it

    def jacobian(self, points: Tensor) -> Tensor:
        """Analytic derivative of :meth:`warp_points` at ``[B, N, 2]``, as ``[B, N, 2, 2]``."""
        linear = self.theta[:, None, :, :2].expand(-1, points.shape[1], -1, -1)
        if self.control_points is None:
            return linear
        offset = points[:, :, None] - self.control_points
        distance = offset.abs().sum(-1)
        slope = 2 * distance * torch.log(distance + 1e-6) + distance.square() / (distance + 1e-6)
        gradient = ((slope * self.control_params)[..., None] * offset.sign()).sum(2)
        return linear + gradient[:, :, None, :]

    def warp_image(self, image: Tensor) -> Tensor:
        """Warp ``image [B, C, H, W]``: each output pixel x shows the input at ``warp_points(x)``."""
        height, width = image.shape[2:]
        points = coordinate_grid(height, width, self.theta).reshape(1, -1, 2)
        return sample(image, self.warp_points(points).view(-1, height, width, 2), padding_mode="reflection")
