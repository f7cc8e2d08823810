"""Picture metrics per frame, their means per clip and per person, and the trivial answers to beat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights

from ..geometry import coordinate_grid, sample

Figures = dict[str, float]
CHUNK = 64  # frames measured or warped at once: SSIM keeps several copies of them
WARP_STEPS, WARP_LR = 150, 0.01


def load_lpips(device: torch.device) -> LearnedPerceptualImagePatchSimilarity | None:
    """LPIPS (Zhang et al., 2018) by AlexNet, summed over frames in [0, 1].

    None where AlexNet's ImageNet weights do not lie in torch hub's folder: nothing is fetched.
    """
    name = AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    if not (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file():
        return None
    return LearnedPerceptualImagePatchSimilarity("alex", reduction="sum", normalize=True).to(device)


def picture_metrics(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """L1, PSNR (dB) and SSIM of each frame, ``[B]`` each, for ``[B, 3, H, W]`` in [0, 1].

    Two equal frames have infinite PSNR; it is counted as 100 dB.
    """
    psnr = peak_signal_noise_ratio(prediction, target, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return {
        "L1": (prediction - target).abs().mean(dim=(1, 2, 3)),
        "PSNR": psnr.clamp(max=100.0),
        "SSIM": structural_similarity_index_measure(prediction, target, data_range=1.0, reduction="none"),
    }


class ClipMetrics:
    """Means over the frames of a clip that comes in parts."""

    def __init__(self, lpips: LearnedPerceptualImagePatchSimilarity | None = None):
        self.lpips, self.count = lpips, 0
        self.sums: Figures = defaultdict(float)

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Count in ``[N, 3, H, W]`` frames in [0, 1]."""
        self.count += len(target)
        for name, values in picture_metrics(prediction, target).items():
            self.sums[name] += float(values.double().sum())
        if self.lpips is not None:
            self.sums["LPIPS"] += float(self.lpips(prediction, target))

    def means(self) -> Figures:
        return {name: value / self.count for name, value in self.sums.items()}


def mean_over_people(figures: Iterable[tuple[str, Figures]]) -> Figures:
    """Mean over people of each person's mean over clips, from (person, figures of one clip) pairs."""
    by_person: dict[str, list[Figures]] = defaultdict(list)
    for person, values in figures:
        by_person[person].append(values)
    people = [_mean(clips) for clips in by_person.values()]
    return _mean(people)


def _mean(rows: list[Figures]) -> Figures:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def best_affine_warp(source: Tensor, targets: Tensor) -> Tensor:
    """The one affine warp of ``source [1, 3, H, W]`` nearest to each of ``targets [N, 3, H, W]``, as images.

    Found by gradient descent on the squared difference, from the identity, blurred at first so that it does not stop
    at the nearest edge; what the warp brings in from outside repeats the border.
    """
    return torch.cat([_best_affine_warp(source, part) for part in targets.split(CHUNK)])


def _best_affine_warp(source: Tensor, targets: Tensor) -> Tensor:
    count, _, height, width = targets.shape
    grid = coordinate_grid(height, width, targets).reshape(1, -1, 2)
    theta = torch.eye(2, 3, device=targets.device).repeat(count, 1, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([theta], lr=WARP_LR)
    images = source.expand(count, -1, -1, -1)

    def warped(pictures: Tensor) -> Tensor:
        points = torch.einsum("bij,bnj->bni", theta[:, :, :2], grid.expand(count, -1, -1)) + theta[:, None, :, 2]
        return sample(pictures, points.view(count, height, width, 2), padding_mode="border")

    with torch.enable_grad():
        for step in range(WARP_STEPS):
            blur = 4 if step < WARP_STEPS // 3 else 2 if step < 2 * WARP_STEPS // 3 else 1
            difference = F.avg_pool2d(warped(images) - targets, blur)
            optimizer.zero_grad()
            difference.square().mean(dim=(1, 2, 3)).sum().backward()
            optimizer.step()
    # no step back: where descent ended worse than doing nothing, doing nothing is the better warp
    result = warped(images).detach()
    worse = (result - targets).square().mean(dim=(1, 2, 3)) > (images - targets).square().mean(dim=(1, 2, 3))
    return torch.where(worse[:, None, None, None], images, result)
