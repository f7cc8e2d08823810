"""A z-buffer for meshes of small triangles, in whole-tensor operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FAR = torch.iinfo(torch.int64).max
_INDEX_BITS = 24  # of a key, under the depth
_DEPTH_STEPS = 2.0**24
_EDGE = -1e-4  # barycentric slack, so that neighbours leave no crack


def rasterise(points: Tensor, depth: Tensor, triangles: Tensor, two_sided: Tensor, size: int) -> tuple[Tensor, Tensor]:
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
    x, y = points.unbind(-1)
    ends = triangles.unbind(1)
    (ax, bx, cx), (ay, by, cy) = ([values.index_select(1, end) for end in ends] for values in (x, y))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    chosen = ((area > 1e-6) | (two_sided & (area < -1e-6))).flatten().nonzero().squeeze(1)
    image = chosen // count
    number = chosen - image * count
    corners = [[v.flatten().index_select(0, chosen) for v in values] for values in ((ax, bx, cx), (ay, by, cy))]
    vertex = [end.index_select(0, number).add_(image, alpha=points.shape[1]) for end in ends]
    corners.append([depth.flatten().index_select(0, v) for v in vertex])
    box = [_span(values, size) for values in corners[:2]]
    kept = ((box[0][1] > 0) & (box[1][1] > 0)).nonzero().squeeze(1)
    corners = [[v.index_select(0, kept) for v in values] for values in corners]
    (left, width), (top, height) = ([v.index_select(0, kept) for v in pair] for pair in box)
    planes = _planes(*corners, area.flatten().index_select(0, chosen.index_select(0, kept)), left, top)
    first = ((image * size).index_select(0, kept) + top.long()) * size + left.long()

    triangle, place, row = _runs(planes, width, height)
    slope_x, slope_y, origin = planes[6:]
    z = slope_x.index_select(0, triangle) * place + slope_y.index_select(0, triangle) * row
    z += origin.index_select(0, triangle)
    pixel = first.index_select(0, triangle) + (row * size + place).long()
    key = (z * (_DEPTH_STEPS / 64)).long() << _INDEX_BITS
    key |= number.index_select(0, kept).index_select(0, triangle)
    buffer = torch.full((batch * size * size,), _FAR, dtype=torch.int64, device=points.device)
    buffer.scatter_reduce_(0, pixel, key, "amin")
    buffer = buffer.view(batch, size * size)
    hit = buffer != _FAR
    nearest = torch.where(hit, buffer & ((1 << _INDEX_BITS) - 1), -1)
    return nearest, torch.where(hit, (buffer >> _INDEX_BITS).float() * (64 / _DEPTH_STEPS), float("inf"))


def _span(corners: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """First pixel with its centre between the least and greatest of three coordinates, and how many there are."""
    a, b, c = corners
    low = (torch.minimum(torch.minimum(a, b), c) - 0.5).ceil_().clamp_(0, size)
    high = (torch.maximum(torch.maximum(a, b), c) - 0.5).floor_().clamp_(-1, size - 1)
    return low, (high - low + 1).clamp_(min=0)


def _planes(x: list[Tensor], y: list[Tensor], z: list[Tensor], area: Tensor, left: Tensor, top: Tensor) -> list[Tensor]:
    """Weights of the second and third corner, and depth: slope in x, slope in y, value at the box's first pixel."""
    inverse = 1 / area
    abx, aby, acx, acy = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    dx, dy = left + 0.5 - x[0], top + 0.5 - y[0]
    second_x, second_y, third_x, third_y = acy * inverse, -acx * inverse, -aby * inverse, abx * inverse
    second, third = second_x * dx + second_y * dy, third_x * dx + third_y * dy
    ab, ac = z[1] - z[0], z[2] - z[0]
    depth = [second_x * ab + third_x * ac, second_y * ab + third_y * ac, z[0] + second * ab + third * ac]
    return [second_x, second_y, second, third_x, third_y, third, *depth]


def _runs(planes: list[Tensor], width: Tensor, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels inside the triangles: number of the triangle, column and row in its box.

    Each row of a box is cut by the three edges to a run of pixels, so that no pixel outside is ever looked at.
    """
    triangle, row = _counted(height.long())
    start, end = torch.zeros_like(row), width.index_select(0, triangle) - 1
    second_x, second_y, second, third_x, third_y, third = planes[:6]
    edges = [(second_x, second_y, second), (third_x, third_y, third)]
    edges.append((-second_x - third_x, -second_y - third_y, 1 - second - third))
    for slope_x, slope_y, value in edges:
        slope = slope_x.index_select(0, triangle)
        crossing = slope_y.index_select(0, triangle).mul_(row).add_(value.index_select(0, triangle)).sub_(_EDGE)
        rising = slope > 0
        crossing = crossing.neg_().div_(torch.where(rising, slope.clamp(min=1e-9), slope.clamp(max=-1e-9)))
        start = torch.where(rising, torch.maximum(start, crossing), start)
        end = torch.where(rising, end, torch.minimum(end, crossing))
    start = start.ceil_()
    run, column = _counted((end.floor_() - start + 1).clamp_(min=0).long())
    return triangle.index_select(0, run), column + start.index_select(0, run), row.index_select(0, run)


def _counted(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Every number i ``counts[i]`` times, and beside it 0, 1, 2, ... as floats."""
    start = counts.cumsum(0) - counts
    numbers = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return numbers, (torch.arange(len(numbers), device=counts.device) - start.index_select(0, numbers)).float()


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
    first = torch.arange(batch, device=points.device).repeat_interleave(count) * points.shape[1]
    vertex = triangles.index_select(0, nearest.flatten()) + first[:, None]  # [B * M, 3]
    corners = points.flatten(0, 1).index_select(0, vertex.flatten()).view(-1, 6)
    ax, ay, bx, by, cx, cy = corners.unbind(1)
    row = pixel.flatten() // size
    dx, dy = pixel.flatten() - row * size + 0.5 - ax, row + 0.5 - ay
    abx, aby, acx, acy = bx - ax, by - ay, cx - ax, cy - ay
    inverse = 1 / (abx * acy - aby * acx)
    second, third = (acy * dx - acx * dy) * inverse, (abx * dy - aby * dx) * inverse
    weights = torch.stack([1 - second - third, second, third], 1)
    mixed = F.embedding_bag(vertex, values.flatten(0, 1), mode="sum", per_sample_weights=weights)
    return mixed.T.reshape(-1, batch, count).contiguous()


def compact(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the chosen entries [B, N] per row, padded to one length: int64 [B, M], and which are real."""
    count = chosen.sum(1)
    length = max(int(count.max()), 1)
    batch, place = chosen.nonzero(as_tuple=True)
    within = torch.arange(len(place), device=chosen.device) - (count.cumsum(0) - count)[batch]
    pixel = torch.zeros(len(chosen), length, dtype=torch.long, device=chosen.device)
    pixel[batch, within] = place
    return pixel, torch.arange(length, device=chosen.device) < count[:, None]
