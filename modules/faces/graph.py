"""Runs a network that is stored as a list of operations, in the metadata of the file of its weights.

So are networks kept that were converted from TensorFlow Lite or TensorFlow.js: their operations, numbered tensors and
layout, ``[B, H, W, C]``.  The channels' place is changed by views only, PyTorch's channels-last format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .frozen import FrozenNetwork, pad_same

Operation = dict[str, Any]
ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "ADD": torch.add,
    "SUB": torch.sub,
    "MUL": torch.mul,
    "MAXIMUM": torch.maximum,
    "MINIMUM": torch.minimum,
    "MATMUL": torch.matmul,
    "RELU": F.relu,
    "LOGISTIC": torch.sigmoid,
    "HARD_SWISH": F.hardswish,
}
ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {0: lambda x: x, 1: F.relu}  # numbers as TensorFlow Lite has them


class GraphNetwork(FrozenNetwork):
    """The operations of ``Face_Checkpoints/NAME.safetensors``, batched and differentiable."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        program = json.loads(self.about["program"])
        self.inputs, self.outputs = program["inputs"], program["outputs"]
        self.operations: list[Operation] = program["ops"]
        # When each intermediate result is last used: kept no longer, or a batch would hold them all
        self._last = {number: at for at, op in enumerate(self.operations) for number in op["in"]}

    def forward(self, image: Tensor) -> list[Tensor]:
        """Pictures ``[B, 3, H, W]``, in the size and range the network wants -> its outputs, in their own layouts."""
        known = {self.inputs[0]: image.float().permute(0, 2, 3, 1)}
        for at, op in enumerate(self.operations):
            given = [known[number] if number in known else self.weight(str(number)) for number in op["in"]]
            known[op["out"]] = _run(op, given, image.shape[0])
            for number in op["in"]:
                if self._last[number] == at and number not in self.outputs:
                    known.pop(number, None)
        return [known[number] for number in self.outputs]


def _run(op: Operation, given: list[Tensor], batch: int) -> Tensor:
    kind, x = op["op"], given[0]
    if kind in ELEMENTWISE:
        return ACTIVATIONS[op.get("act", 0)](ELEMENTWISE[kind](*given))
    if kind in IMAGE_OPERATIONS:
        return IMAGE_OPERATIONS[kind](op, x.permute(0, 3, 1, 2), *given[1:]).permute(0, 2, 3, 1)
    if kind == "PAD":
        return F.pad(x, op["sides"])
    if kind == "RESHAPE":
        return x.reshape(batch, *(op["shape"][1:]))
    if kind == "MEAN":
        return x.mean(op["axes"], keepdim=op["keep"])
    raise ValueError(f"unknown operation {kind}")


# Of pictures: called with the operation, [B, C, H, W], and its weights


def _convolve(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = pad_same(x, weight.shape[2:], op["stride"]) if op["same"] else x
    groups = x.shape[1] if op["op"] == "DEPTHWISE_CONV_2D" else 1
    return ACTIVATIONS[op["act"]](F.conv2d(x, weight, bias, op["stride"], groups=groups))


def _pool(op: Operation, x: Tensor) -> Tensor:
    largest = op["op"] == "MAX_POOL_2D"
    x = pad_same(x, op["size"], op["stride"], float("-inf") if largest else 0.0) if op["same"] else x
    return (F.max_pool2d if largest else F.avg_pool2d)(x, op["size"], op["stride"])


def _resize(op: Operation, x: Tensor) -> Tensor:
    return F.interpolate(x, op["size"], mode="bilinear", align_corners=op["corners"])


IMAGE_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve,
    "TRANSPOSE_CONV": lambda op, x, weight, bias: F.conv_transpose2d(x, weight, bias, op["stride"]),
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "RESIZE_BILINEAR": _resize,
    "PRELU": lambda op, x, slopes: F.prelu(x, slopes.flatten()),  # one slope per channel
}
