"""A z-buffer for meshes of small triangles, in whole-tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

_FAR = torch.iinfo(torch.int64).max
_INDEX_BITS = 24  # of a key, under the depth
_DEPTH_STEPS = 2.0**24
_EDGE = -1e-4  # barycentric slack, so that neighbours leave no crack


def rasterise(points: Tensor, depth: Tensor, triangles: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The nearest triangle in every pixel.

    Args:
        points: vertices [B, V, 2] as (x, y) in pixels; pixel i is centred at i + 0.5.
        depth: distance of the vertices from the camera, [B, V], in (0, 64).
        triangles: [T, 3] vertex numbers; those that face the camera run clockwise on the screen (y down).
        size: pixels of a side.

    Returns:
        number of the triangle, int64 [B, size * size], -1 where there is none, and depth, float32 of the same shape.
    """
    batch, count = len(points), len(triangles)
    corners = torch.cat([points, depth[..., None]], -1).index_select(1, triangles.flatten()).view(batch * count, 3, 3)
    a, b, c = corners.unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = (torch.minimum(torch.minimum(a, b), c)[:, :2] - 0.5).ceil().clamp(0, size)
    high = (torch.maximum(torch.maximum(a, b), c)[:, :2] - 0.5).floor().clamp(-1, size - 1)
    extent = (high - low + 1).clamp(min=0)
    number = extent[:, 0] * extent[:, 1] * (area > 1e-6)
    chosen = number.nonzero().squeeze(1)
    planes = _planes(a[chosen], b[chosen], c[chosen], area[chosen], low[chosen])

    # Every pixel of every bounding box is a candidate: its triangle, and its place in the box.
    counts = number[chosen].long()
    triangle = torch.repeat_interleave(torch.arange(len(chosen), device=points.device), counts)
    place = torch.arange(len(triangle), device=points.device) - (counts.cumsum(0) - counts).index_select(0, triangle)
    width = extent[chosen, 0].index_select(0, triangle)
    place = place.float()  # boxes are small: exact
    y = ((place + 0.5) / width).floor()
    x = place - y * width
    plane = planes.index_select(0, triangle)
    first = plane[:, 0] * x + plane[:, 1] * y + plane[:, 2]
    second = plane[:, 3] * x + plane[:, 4] * y + plane[:, 5]
    inside = ((first > _EDGE) & (second > _EDGE) & (first + second < 1 - _EDGE)).nonzero().squeeze(1)

    triangle, plane = triangle.index_select(0, inside), plane.index_select(0, inside)
    x, y = x.index_select(0, inside), y.index_select(0, inside)
    z = plane[:, 6] * x + plane[:, 7] * y + plane[:, 8]
    corner = low[chosen].index_select(0, triangle)
    original = chosen.index_select(0, triangle)
    image = (chosen // count).index_select(0, triangle)
    pixel = (image * size + (corner[:, 1] + y).long()) * size + (corner[:, 0] + x).long()
    key = ((z * (_DEPTH_STEPS / 64)).long() << _INDEX_BITS) | (original - image * count)
    buffer = torch.full((batch * size * size,), _FAR, dtype=torch.int64, device=points.device)
    buffer.scatter_reduce_(0, pixel, key, "amin")
    buffer = buffer.view(batch, size * size)
    hit = buffer != _FAR
    nearest = torch.where(hit, buffer & ((1 << _INDEX_BITS) - 1), -1)
    return nearest, torch.where(hit, (buffer >> _INDEX_BITS).float() * (64 / _DEPTH_STEPS), float("inf"))


def _planes(a: Tensor, b: Tensor, c: Tensor, area: Tensor, low: Tensor) -> Tensor:
    """[N, 9]: weights of b and c, and depth, each as a plane over the pixels counted from ``low``."""
    inverse = 1 / area
    origin = low + 0.5
    ab, ac = b - a, c - a
    second = torch.stack([ac[:, 1], -ac[:, 0]], -1) * inverse[:, None]
    third = torch.stack([-ab[:, 1], ab[:, 0]], -1) * inverse[:, None]
    offset = origin - a[:, :2]
    second0, third0 = (second * offset).sum(-1, keepdim=True), (third * offset).sum(-1, keepdim=True)
    slope = second * ab[:, 2:] + third * ac[:, 2:]
    depth0 = a[:, 2:] + second0 * ab[:, 2:] + third0 * ac[:, 2:]
    return torch.cat([second, second0, third, third0, slope, depth0], -1)


def interpolate(points: Tensor, triangles: Tensor, nearest: Tensor, pixel: Tensor, size: int, values: Tensor) -> Tensor:
    """Values of the vertices at pixels.

    Args:
        points: [B, V, 2] as in :func:`rasterise`.
        triangles: [T, 3].
        nearest: [B, M] triangle seen at each of the pixels.
        pixel: [B, M] numbers of the pixels, row by row.
        size: pixels of a side.
        values: [B, V, C].

    Returns:
        [C, B, M].  Linear on the screen: triangles are too small for perspective to show within them.
    """
    batch, count = nearest.shape
    vertex = triangles.index_select(0, nearest.flatten())  # [B * M, 3]
    first = torch.arange(batch, device=points.device).repeat_interleave(count) * points.shape[1]
    packed = torch.cat([points, values], -1).flatten(0, 1)
    a, b, c = (packed.index_select(0, vertex[:, i] + first) for i in range(3))
    place = pixel.flatten().float()
    y = ((place + 0.5) / size).floor()
    x = place - y * size + 0.5
    y = y + 0.5
    ab, ac = b - a, c - a
    inverse = 1 / (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    dx, dy = x - a[:, 0], y - a[:, 1]
    second = ((ac[:, 1] * dx - ac[:, 0] * dy) * inverse)[:, None]
    third = ((ab[:, 0] * dy - ab[:, 1] * dx) * inverse)[:, None]
    mixed = torch.addcmul(torch.addcmul(a[:, 2:], second, ab[:, 2:]), third, ac[:, 2:])
    return mixed.T.reshape(-1, batch, count).contiguous()
