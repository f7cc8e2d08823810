"""Perceptual feature networks: five levels of features of an image, never trained here."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.sid import PerceptualParams
from ..errors import UserError
from ..geometry import AntiAliasDownsample
from ..training.checkpoint import load_checkpoint, restore

VGG_TAPS = (2, 7, 12, 21, 30)  # torchvision's layers up to here end with relu1_1, relu2_1, ... relu5_1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL_WIDTHS = (24, 32, 48, 64, 64)
SMALL_SEED = 19


class PerceptualNetwork(nn.Module):
    """Frozen stages applied one after another: ``[B, 3, H, W]`` in [0, 1] -> one feature map per stage."""

    def __init__(self, stages: list[nn.Module]):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)
        self._half: dict[tuple[torch.dtype, torch.device], list[nn.ModuleList]] = {}  # lists: no part of its state

    def train(self, mode: bool = True) -> PerceptualNetwork:
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        out, features = (image - self.mean) / self.std, []
        half = torch.is_autocast_enabled(image.device.type)
        for stage in self._in_half(torch.get_autocast_dtype(image.device.type), image.device) if half else self.stages:
            out = stage(out)
            features.append(out)
        return features

    def _in_half(self, dtype: torch.dtype, device: torch.device) -> nn.ModuleList:
        """The stages in half precision, made once: autocast would do so at every call, since they do not learn."""
        if (dtype, device) not in self._half:
            with torch.inference_mode(False):
                self._half[dtype, device] = [copy.deepcopy(self.stages).to(dtype)]
        return self._half[dtype, device][0]


def _vgg19_stages(weights: dict[str, Tensor] | None) -> list[nn.Module]:
    from torchvision.models import vgg19

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SMALL_SEED)  # without ImageNet weights the random ones are the same in every run
        layers = vgg19(weights=None).features
    if weights is not None:
        prefix = "features."
        entries = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        restore(layers, entries, "VGG-19's weights")
    # its ReLUs work in place: each on a convolution's result, which is not handed out
    return [layers[i:j] for i, j in zip((0, *VGG_TAPS), VGG_TAPS, strict=False)]


def _imagenet_weights(path: str | None) -> dict[str, Tensor]:
    from torchvision.models import VGG19_Weights

    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; train_params.perceptual_network.path must name VGG-19 weights")
        return load_checkpoint(path)
    try:
        return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, the hub refuses, or what came is not the file
        raise UserError(
            f"the perceptual loss needs VGG-19's ImageNet weights and they cannot be fetched ({error}): set "
            "train_params.perceptual_network.path to a downloaded vgg19-dcbb9e9d.pth, or choose weights small or random"
        ) from error


def _small_stages() -> list[nn.Module]:
    """Five stages of seeded orthogonal filters: about a fortieth of VGG-19's work.

    Random features of an untrained network already compare textures and edges over growing neighbourhoods (Ulyanov
    et al., 2018, and He et al., 2016, use them so); orthogonal rows keep every direction of a patch in play.
    """
    stages: list[nn.Module] = []
    generator = torch.Generator().manual_seed(SMALL_SEED)
    for i, (inputs, outputs) in enumerate(zip((3, *SMALL_WIDTHS), SMALL_WIDTHS, strict=False)):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.orthogonal_(conv.weight, gain=2**0.5, generator=generator)
        nn.init.zeros_(conv.bias)
        stages.append(nn.Sequential(*([nn.AvgPool2d(2)] if i else []), conv, nn.ReLU()))
    return stages


def build_perceptual(params: PerceptualParams) -> PerceptualNetwork:
    """The network the configuration names.

    ``imagenet``: torchvision's VGG-19 with ImageNet weights from ``path`` or the hub (UserError if neither works);
    ``random``: the same layers with seeded random weights; ``small``: a light network of our own, also untrained.
    """
    if params.weights == "small":
        return PerceptualNetwork(_small_stages())
    weights = _imagenet_weights(params.path) if params.weights == "imagenet" else None
    return PerceptualNetwork(_vgg19_stages(weights))


class ImagePyramid(nn.Module):
    """Anti-aliased copies of an image at several scales: ``[B, 3, H, W]`` -> ``{scale: [B, 3, H*scale, W*scale]}``."""

    def __init__(self, scales: list[float]):
        super().__init__()
        self.scales = scales
        self.downs = nn.ModuleList(AntiAliasDownsample(scale) for scale in scales)

    def forward(self, image: Tensor) -> dict[float, Tensor]:
        return {scale: down(image) for scale, down in zip(self.scales, self.downs, strict=True)}


def feature_distance(real: list[Tensor], fake: list[Tensor], weights: list[float]) -> Tensor:
    """Weighted sum over feature maps of the mean absolute difference; the real side gets no gradient.

    Differences are of the maps' own precision, their means of full precision.
    """
    terms = [w * _mean((b - a.detach()).abs()) for a, b, w in zip(real, fake, weights, strict=False) if w]
    return torch.stack(terms).sum() if terms else fake[0].new_zeros(())


def _mean(values: Tensor) -> Tensor:
    return values.mean(dtype=torch.promote_types(values.dtype, torch.float32))
