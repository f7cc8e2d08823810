"""Glasses: frames drawn on a plane before the eyes, and temples on planes beside the head."""

from __future__ import annotations

import torch
from torch import Tensor

from . import camera
from .curves import length, mix, step
from .geometry import Surface
from .landmarks import eye_surface
from .light import Light
from .parameters import GLASSES, Faces, category


def add_glasses(
    faces: Faces, image: Tensor, mask: Tensor, near: Tensor, view: camera.View, surface: Surface, light: Light
) -> tuple[Tensor, Tensor]:
    """Put glasses into ``image [B, 3, H, W]`` (linear) and take them out of ``mask [B, 1, H, W]``, where worn.

    ``near`` [B, H, W] is the depth of what is in the picture already.
    """
    chosen = (category(faces, "glasses") > 0).nonzero().squeeze(1)
    if len(chosen) == 0:
        return image, mask
    worn, image, mask = faces.take(chosen), image.clone(), mask.clone()
    rotation, eye = view.rotation[chosen], view.eye[chosen]
    ray = _rays(worn, image.shape[-1], rotation)
    pupils = eye_surface(surface.still[chosen])
    colour, cover = _front(worn, pupils, ray, eye, rotation, near[chosen], light, chosen)
    image[chosen] = mix(image[chosen], colour, cover)
    mask[chosen] = mask[chosen] * (1 - cover)
    return image, mask


def _rays(faces: Faces, size: int, rotation: Tensor) -> Tensor:
    """[B, 3, H, W] through the pixels, in the head's space; of length 1 along the camera's axis."""
    line = torch.linspace(-1, 1, size, device=rotation.device)
    x, y = line[None, None, :] - faces.pose[:, 3, None, None], line[None, :, None] - faces.pose[:, 4, None, None]
    reach = camera.HALF_FRAME / camera.DISTANCE / faces.pose[:, 5, None, None]
    x, y = torch.broadcast_tensors(x * reach, -y * reach)
    return torch.einsum("bji,bjhw->bihw", rotation, torch.stack([x, y, -torch.ones_like(x)], 1))


def _front(faces, pupils, ray, eye, rotation, near, light, chosen) -> tuple[Tensor, Tensor]:
    """Colour [B, 3, H, W] and cover [B, 1, H, W] of lenses, frames, bridge and temples."""
    kind = category(faces, "glasses")[:, None, None]
    z = pupils[..., 2].mean(0)[:, None, None] + 0.19
    height = pupils[..., 1].mean(0)[:, None, None] - 0.03
    spacing = (pupils[1, :, 0] - pupils[0, :, 0])[:, None, None] / 2
    reach = (z - eye[:, 2, None, None]) / ray[:, 2]
    x, y = eye[:, 0, None, None] + ray[:, 0] * reach, eye[:, 1, None, None] + ray[:, 1] * reach - height
    side = x.abs()
    pixel = camera.HALF_FRAME / faces.pose[:, 5, None, None] * 2 / ray.shape[-1]
    soft = 0.7 * pixel

    round_lens = (((side - spacing) / 1.0) ** 2 + y**2).sqrt() - 0.34
    corner = torch.stack([(side - spacing - 0.01).abs() - 0.27, (y + 0.02).abs() - 0.17], 0)
    square = length(corner.clamp(min=0)) + corner.amax(0).clamp(max=0) - 0.09
    distance = torch.where(kind == GLASSES.index("round glasses"), round_lens, square)
    thick = torch.where(kind == GLASSES.index("round glasses"), 0.028, 0.04)
    frame = step(distance.abs() - thick, soft, -soft)
    inner = spacing - torch.where(kind == GLASSES.index("round glasses"), 0.34, 0.37)
    bridge = step((y - 0.09 + 0.25 * (x / 0.3) ** 2).abs() - 0.025, soft, -soft) * step(side - inner, soft, -soft)
    lens = step(distance, soft, -soft)
    before = reach < near + 0.02
    frame, lens = torch.maximum(frame, bridge) * before, lens * before

    temple = torch.zeros_like(frame)
    for sign in (-1.0, 1.0):
        at = (spacing + 0.45) * sign
        away = (at - eye[:, 0, None, None]) / ray[:, 0]
        ty, tz = eye[:, 1, None, None] + ray[:, 1] * away - height, eye[:, 2, None, None] + ray[:, 2] * away
        bar = step((ty - 0.1).abs() - 0.03, soft, -soft) * (tz < z) * (tz > -0.1) * (away > 0) * (away < near + 0.05)
        temple = torch.maximum(temple, bar)
    hinge = step(side - spacing - 0.36, -soft, soft) * step(side - spacing - 0.47, soft, -soft)
    hinge = hinge * step((y - 0.1).abs() - 0.03, soft, -soft) * before
    frame = torch.maximum(torch.maximum(frame, hinge), temple)

    dark = kind == GLASSES.index("sunglasses")
    shine = step((x * 0.6 + y + 0.3 * torch.sin(x * 3)).remainder(0.9) - 0.45, -0.1, 0.1) * 0.05
    tint = torch.where(dark, 0.93, 0.03 + shine)
    cover = torch.maximum(frame, lens * tint)
    metal = torch.where(kind == GLASSES.index("round glasses"), 0.12, 0.015)
    glass = torch.where(dark, 0.02 + 0.06 * step(y, -0.2, 0.3), 0.85)
    colour = torch.where(frame > lens * tint, metal, glass)[:, None] * light.lamp.permute(1, 0, 2)[chosen][..., None]
    return colour, cover[:, None]
