"""SID's losses as pure functions of what the networks returned.  Every one is a mean over the global batch.

Some compare rows of the whole global batch (:func:`.contrast.gather`).
"""

from __future__ import annotations

from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contrast import gather
from ..faces.window import face_oval, window
from ..geometry import RandomTransform
from .keypoints import Keypoints


def in_full_precision(function):
    """Compute a loss of coordinates or embeddings outside autocast; its first argument names the device."""

    @wraps(function)
    def wrapped(first, *arguments):
        tensor = first.value if isinstance(first, Keypoints) else first
        with torch.autocast(tensor.device.type, enabled=False):
            return function(first, *arguments)

    return wrapped


# ------------------------------------------------------------------------------------------------------- adversarial


def generator_gan(fake_scores: list[Tensor]) -> Tensor:
    """LSGAN for the generator: fakes should score 1; mean over patches, summed over scales."""
    return torch.stack([(1 - s).square().mean() for s in fake_scores]).sum()


def discriminator_gan(real_scores: list[Tensor], fake_scores: list[Tensor]) -> Tensor:
    """LSGAN for the discriminator: reals should score 1 and fakes 0."""
    terms = [(1 - r).square().mean() + f.square().mean() for r, f in zip(real_scores, fake_scores, strict=True)]
    return torch.stack(terms).sum()


# ------------------------------------------------------------------------------------------- key points (FOMM sec. 3.3)


@in_full_precision
def equivariance_value(driving: Keypoints, transformed: Keypoints, transform: RandomTransform) -> Tensor:
    """Key points of a warped frame, mapped back, are the frame's own (FOMM eq. 9)."""
    return (driving.value - transform.warp_points(transformed.value)).abs().mean()


@in_full_precision
def equivariance_jacobian(driving: Keypoints, transformed: Keypoints, transform: RandomTransform) -> Tensor:
    """Likewise for jacobians: ``J_driving^-1 T' J_transformed = 1`` (FOMM eq. 11)."""
    mapped = transform.jacobian(transformed.value) @ transformed.jacobian
    ratio = torch.inverse(driving.jacobian) @ mapped
    return (torch.eye(2, dtype=ratio.dtype, device=ratio.device) - ratio).abs().mean()


KEYPOINT_ROOM = 0.05  # squared distance, in [-1, 1] coordinates, from which key points no longer repel


@in_full_precision
def keypoint_prior(keypoints: Keypoints) -> Tensor:
    """How crowded the key points are: 1 if all are in one place, 0 if all have room.

    ``mean over pairs of max(0, 1 - d^2 / room)`` (Wang et al., CVPR 2021: "One-Shot Free-View Neural Talking-Head
    Synthesis", keypoint prior loss).  Points in one place can only move the picture as a whole.
    """
    value = keypoints.value
    squared = (value[:, :, None] - value[:, None]).square().sum(-1)
    crowded = (1 - squared / KEYPOINT_ROOM).clamp(min=0)
    others = ~torch.eye(value.shape[1], dtype=torch.bool, device=value.device)
    return crowded[:, others].mean()


@in_full_precision
def jacobian_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """How far ``target^-1 predicted`` is from 1, for ``[B, K, 2, 2]``; the target gets no gradient."""
    ratio = torch.inverse(target.detach()) @ predicted
    return (torch.eye(2, dtype=ratio.dtype, device=ratio.device) - ratio).abs().mean()


# ------------------------------------------------------------------------------------------------------- embeddings


@in_full_precision
def semantic_contrast(first: Tensor, second: Tensor, times: Tensor, temperature: float, min_gap: float) -> Tensor:
    """InfoNCE among the frames of one clip: two views ``[B, F, d]`` of frames at ``times [B, F]`` seconds.

    A frame's other view is its positive, frames of the *same clip* more than ``min_gap`` seconds away its negatives.
    The clip's mean is taken off first: who it is helps nobody, and neither does one constant answer, only what changes
    over time.
    """
    mean = 0.5 * (first + second).mean(dim=1, keepdim=True)
    first, second = F.normalize(first - mean, dim=-1), F.normalize(second - mean, dim=-1)
    logits = first @ second.mT / temperature
    apart = (times[:, :, None] - times[:, None]).abs() > min_gap
    own = torch.eye(times.shape[1], dtype=torch.bool, device=times.device)
    logits = logits.masked_fill(~(apart | own), -torch.inf)
    target = own.float().argmax(dim=1).expand(len(times), -1)
    return 0.5 * sum(F.cross_entropy(view.flatten(0, 1), target.flatten()) for view in (logits, logits.mT))


@in_full_precision
def placement(frame: Tensor, view: Tensor, theta: Tensor, aspect: float) -> Tensor:
    """A face is found where a known transform moves it: places ``[B, 4]`` in a frame and a view of it.

    ``theta [B, 2, 3]`` takes points of the view to the frame.  On average the window stays in the middle, upright and
    as large as it is: there is no other word for where a face is.
    """
    found, seen = window(frame, aspect), window(view, aspect)
    moved = torch.cat([theta[..., :2] @ seen[..., :2], theta[..., :2] @ seen[..., 2:] + theta[..., 2:]], dim=-1)
    return (found - moved).abs().mean() + gather(frame).mean(dim=0).square().sum()


@in_full_precision
def congealing(seen: Tensor) -> Tensor:
    """How unlike their mean the faces are that were cut out, ``[B, 3, S, S]``: 0 for equal, symmetric ones.

    Unrelated ones give nearly 1 in a large batch, less in a small one, where each is much of the mean itself.

    Faces lie right where they make their mean sharp (Huang et al., ICCV 2007: "Unsupervised joint alignment of complex
    images").  Light and skin are evened out first; the mean is made symmetric, so that it stands upright in the middle.
    """
    grey = seen.float().mean(dim=1, keepdim=True)
    fine, coarse = (seen.shape[-1] // part | 1 for part in (4, 3))  # odd sides of neighbourhoods
    detail = grey - _around(grey, fine)
    detail = detail / (_around(detail.square(), coarse) + 1e-4).sqrt()
    oval = face_oval(seen.shape[-1]).to(seen.device)
    weight = oval / oval.sum()
    unit = _standard(detail, weight)
    mean = gather(unit.detach()).mean(dim=0, keepdim=True)
    mean = _standard(mean + mean.flip(-1), weight)
    return 1 - (unit * mean * weight).sum(dim=(1, 2, 3)).mean()


def _around(images: Tensor, side: int) -> Tensor:
    """Means over neighbourhoods of ``side x side`` pixels, as far as they lie in the picture."""
    return F.avg_pool2d(images, side, 1, side // 2, count_include_pad=False)


def _standard(images: Tensor, weight: Tensor) -> Tensor:
    """``[B, 1, H, W]`` with weighted mean 0 and variance 1."""
    centred = images - (images * weight).sum(dim=(2, 3), keepdim=True)
    return centred / ((centred.square() * weight).sum(dim=(2, 3), keepdim=True) + 1e-6).sqrt()


@in_full_precision
def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean of ``1 - cos`` over rows; ``b`` gets no gradient."""
    return (1 - F.cosine_similarity(a, b.detach(), dim=-1)).mean()


@in_full_precision
def relative_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of paired rows ``[B, d]`` over twice the variance between rows: 1 for unrelated, 0 for equal.

    Shrinking all embeddings to a point gains nothing, unlike with the distance alone.
    """
    rows = gather(b)
    spread = (rows - rows.mean(dim=0)).square().sum(dim=1).mean()
    return (a - b).square().sum(dim=1).mean() / (2 * spread + 1e-6)
