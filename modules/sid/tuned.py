"""A model made quicker for inference: batch norms folded, convolutions rewritten, channels last, half precision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..devices import dtype_of, native_precision
from ..errors import UserError
from .blocks import UpBlock

FEW = 32  # channels that a convolution computes in the time of one: as many numbers as vector registers hold
LARGEST = 2**16  # channels in times channels out: the weights of larger ones, on small maps, take longer than the map

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def tuned(model: nn.Module) -> nn.Module:
    """A model in evaluation mode, changed in place: the same to rounding, and for inference only."""
    for module, conv, norm in list(_foldable(model)):
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
    for module in list(model.modules()):
        if isinstance(module, UpBlock) and module.conv.in_channels * module.conv.out_channels <= LARGEST:
            module.conv = doubling(module.conv)
        for name, conv in module.named_children():
            if type(conv) is nn.Conv2d and _is_thin(conv):
                setattr(module, name, split(conv))
    return model.to(memory_format=torch.channels_last)


def half_precision(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What to compute in where fp32 is not needed; None: fp32.  ``auto``: bf16 where the device does so natively.

    Raises:
        UserError: fp16 on a CPU, where it is slow.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16 is of GPUs; take bf16 or fp32 on a CPU")
    chosen = dtype_of(native_precision(cpu=device.type == "cpu") if precision == "auto" else precision)
    return None if chosen is torch.float32 else chosen


def _foldable(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Convolutions whose results nobody sees but the batch norm after them: the module that has them, their names."""
    for module in model.modules():
        pairs = getattr(module, "FOLDED", ())
        if isinstance(module, nn.Sequential):
            pairs = pairwise(name for name, _ in module.named_children())
        for conv, norm in pairs:
            kinds = getattr(module, conv), getattr(module, norm)
            if isinstance(kinds[0], nn.Conv2d) and isinstance(kinds[1], nn.BatchNorm2d):
                yield module, conv, norm


@torch.no_grad()
def doubling(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """Nearest-neighbour doubling and a 3x3 convolution in one, with four ninths of its multiplications.

    Doubling is a transposed convolution by ones of 2x2 pixels with stride 2; the convolution's kernel is spread by it.
    """
    made = nn.ConvTranspose2d(conv.in_channels, conv.out_channels, 4, stride=2, padding=1)
    kernel = conv.weight.flip(2, 3).transpose(0, 1)
    made.weight.copy_(sum(F.pad(kernel, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)))
    made.bias.copy_(conv.bias)
    return made.to(conv.weight.device)


@torch.no_grad()
def split(conv: nn.Conv2d) -> nn.Sequential:
    """A k x k convolution to few channels as its k columns, each with results of its own, and then their sum."""
    height, width = conv.kernel_size
    assert not isinstance(conv.padding, str)
    (above, beside), count = conv.padding, conv.out_channels
    columns = nn.Conv2d(conv.in_channels, width * count, (height, 1), padding=(above, 0), bias=False)
    columns.weight.copy_(conv.weight.permute(3, 0, 1, 2).flatten(0, 1)[..., None])
    total = nn.Conv2d(width * count, count, (1, width), padding=(0, beside))
    total.weight.copy_(torch.eye(width * count).unflatten(0, (width, count)).permute(1, 2, 0)[:, :, None])
    total.bias.copy_(conv.bias)
    return nn.Sequential(columns, total).to(conv.weight.device)


def _is_thin(conv: nn.Conv2d) -> bool:
    """Whether a convolution's results are so few that most of a processor's vectors stay empty."""
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1 and conv.bias is not None
    return plain and min(conv.kernel_size) > 3 and conv.out_channels * conv.kernel_size[1] <= FEW
