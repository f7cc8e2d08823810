"""A z-buffer for meshes of small triangles, in whole-tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

_FAR = torch.iinfo(torch.int64).max
_INDEX_BITS = 24  # of a key, under the depth
_DEPTH_STEPS = 2.0**24
_EDGE = -1e-4  # barycentric slack, so that neighbours leave no crack


def rasterise(
    points: Tensor, depth: Tensor, triangles: Tensor, two_sided: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The nearest triangle in every pixel.

    Args:
        points: vertices [B, V, 2] as (x, y) in pixels; pixel i is centred at i + 0.5.
        depth: distance of the vertices from the camera, [B, V], in (0, 64).
        triangles: [T, 3] vertex numbers; those that face the camera run clockwise on the screen (y down).
        two_sided: bool [T], of triangles that are seen from behind as well.
        size: pixels of a side.

    Returns:
        number of the triangle, int64 [B, size * size], -1 where there is none, and depth, float32 of the same shape.
    """
    batch, count = len(points), len(triangles)
    a, b, c = (points.index_select(1, triangles[:, i]) for i in range(3))
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    chosen = ((area > 1e-6) | (two_sided & (area < -1e-6))).flatten().nonzero().squeeze(1)
    chosen, corners, low, extent = _boxes(points, depth, triangles, chosen, size)
    planes = _planes(*corners.unbind(1), area.flatten().index_select(0, chosen), low)

    # Every pixel of every bounding box is a candidate: its triangle, and its place in the box.
    counts = (extent[:, 0] * extent[:, 1]).int()
    triangle = torch.repeat_interleave(torch.arange(len(chosen), device=points.device), counts)
    start = (counts.cumsum(0) - counts).index_select(0, triangle)
    place = (torch.arange(len(triangle), device=points.device) - start).float()  # boxes are small: exact
    width = extent[:, 0].index_select(0, triangle)
    y = ((place + 0.5) / width).floor()
    x = place - y * width
    plane = planes.index_select(0, triangle)
    first = plane[:, 0] * x + plane[:, 1] * y + plane[:, 2]
    second = plane[:, 3] * x + plane[:, 4] * y + plane[:, 5]
    inside = (torch.minimum(torch.minimum(first, second), 1 - first - second) > _EDGE).nonzero().squeeze(1)

    triangle, plane = triangle.index_select(0, inside), plane.index_select(0, inside)
    x, y = x.index_select(0, inside), y.index_select(0, inside)
    z = plane[:, 6] * x + plane[:, 7] * y + plane[:, 8]
    image = chosen // count
    corner = ((image * size + low[:, 1].long()) * size + low[:, 0].long()).index_select(0, triangle)
    pixel = corner + (y * size + x).long()
    key = ((z * (_DEPTH_STEPS / 64)).long() << _INDEX_BITS) | (chosen - image * count).index_select(0, triangle)
    buffer = torch.full((batch * size * size,), _FAR, dtype=torch.int64, device=points.device)
    buffer.scatter_reduce_(0, pixel, key, "amin")
    buffer = buffer.view(batch, size * size)
    hit = buffer != _FAR
    nearest = torch.where(hit, buffer & ((1 << _INDEX_BITS) - 1), -1)
    return nearest, torch.where(hit, (buffer >> _INDEX_BITS).float() * (64 / _DEPTH_STEPS), float("inf"))


def _boxes(points: Tensor, depth: Tensor, triangles: Tensor, chosen: Tensor, size: int) -> tuple[Tensor, ...]:
    """Of the chosen triangles those that may cover a pixel's centre: numbers, corners [N, 3, 3], first pixel, extent."""
    image = chosen // len(triangles)
    vertex = triangles.index_select(0, chosen - image * len(triangles)) + image[:, None] * points.shape[1]
    vertices = torch.cat([points, depth[..., None]], -1).flatten(0, 1)
    a, b, c = (vertices.index_select(0, vertex[:, i]) for i in range(3))
    low = (torch.minimum(torch.minimum(a, b), c)[:, :2] - 0.5).ceil_().clamp_(0, size)
    high = (torch.maximum(torch.maximum(a, b), c)[:, :2] - 0.5).floor_().clamp_(-1, size - 1)
    extent = (high - low + 1).clamp_(min=0)
    kept = (extent[:, 0] * extent[:, 1]).nonzero().squeeze(1)
    corners = torch.stack([a, b, c], 1).index_select(0, kept)
    return chosen.index_select(0, kept), corners, low.index_select(0, kept), extent.index_select(0, kept)


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
