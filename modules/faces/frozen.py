"""A frozen network: its weights come with the project, and no checkpoint that it is part of repeats them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..bundled import bundled
from ..errors import UserError

FOLDER = "Face_Checkpoints"


def read_weights(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, in float32, and metadata of the bundled file ``Face_Checkpoints/NAME.safetensors``.

    Raises:
        UserError: it is not there, or damaged.
    """
    path = bundled(f"{FOLDER}/{name}.safetensors")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key).float() for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}): get the checkout or the package again, whole") from error


class FrozenNetwork(nn.Module):
    """Keeps the tensors of a bundled file as buffers, and computes in float32 whatever autocast says.

    A network of this kind is a function of pictures alone: nothing in it is trained, gradients pass through it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        tensors, self.about = read_weights(name)
        for key, tensor in tensors.items():
            self.register_buffer(key.replace(".", "/"), tensor, persistent=False)

    def weight(self, name: str) -> Tensor | None:
        """The tensor that the file calls ``name``, or None."""
        return self._buffers.get(name.replace(".", "/"))

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int | None = None) -> Tensor:
        """Convolution by the weights called ``name``, depthwise if they are; padded to keep the size if not told."""
        weight = self.weight(f"{name}.weight")
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        around = weight.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, weight, self.weight(f"{name}.bias"), stride, around, groups=groups)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        device = next(self.buffers()).device
        with torch.autocast(device.type, enabled=False):
            return super().__call__(*args, **kwargs)


def pad_same(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> Tensor:
    """``x [B, C, H, W]`` with TensorFlow's padding "SAME": an odd pixel goes to the right and to the bottom."""
    sides: list[int] = []
    for length, size, step in ((x.shape[3], kernel[1], stride[1]), (x.shape[2], kernel[0], stride[0])):
        missing = max((-(-length // step) - 1) * step + size - length, 0)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(x, sides, value=value) if any(sides) else x
