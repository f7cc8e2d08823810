"""A part of a model written as an ONNX graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import UserError
from .parts import Part, Tensors
from .session import Graph, needed

OPSET = 18  # has GridSample, and Resize with antialiasing
TOLERANCE = 1e-3  # of the largest number of an output: how far onnxruntime's may be from PyTorch's
LEAST = 1e-2  # largest number of an output that is all but zero


class _Named(nn.Module):
    """A part whose forward takes and gives tensors by name."""

    def __init__(self, part: Part):
        super().__init__()
        self.module, self.compute = part.module, part.compute

    def forward(self, tensors: Tensors) -> Tensors:
        return self.compute(self.module, tensors)


def write_part(part: Part, path: Path, mark: str) -> None:
    """Write ``part`` with any number of items in a batch; ``mark`` is kept in the file.

    Raises:
        UserError: onnxruntime computes something else of the file than PyTorch does.
    """
    needed("onnxscript")
    module = _Named(part).eval()
    inputs = {name: t.contiguous() for name, t in part.inputs.items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        expected = module(inputs)
        batch = torch.export.Dim("batch")
        # a batch stays open only where networks ask for shape[0]: len() would be the example's
        shapes = ({name: {0: batch} for name in inputs},)
        program = torch.export.export(module, (inputs,), dynamic_shapes=shapes, strict=False)
        program = program.run_decompositions(DECOMPOSED)
        names = {"input_names": list(inputs), "output_names": list(expected)}
        made = torch.onnx.export(program, (inputs,), opset_version=OPSET, dynamo=True, verbose=False, **names)
    # the exporter notes for every node which lines of which files on this machine it comes from
    graphs = [made.model.graph, *made.model.functions.values()]
    for item in [made.model, *graphs, *(node for graph in graphs for node in graph)]:
        item.metadata_props.clear()
    made.model.metadata_props["deepexpr"] = mark
    made.save(path)
    _check(path, {name: t[:1] for name, t in inputs.items()}, {name: t[:1] for name, t in expected.items()})


def _check(path: Path, inputs: Tensors, expected: Tensors) -> None:
    found = Graph(path)(**inputs)
    for name, t in expected.items():
        off = float((found[name] - t).abs().max() / t.abs().max().clamp(min=LEAST))
        if not off <= TOLERANCE:
            raise UserError(
                f"{path.name}: onnxruntime's {name} is off by {off:.1g} of its range; use other versions of torch, onnx"
                " or onnxruntime"
            )


# ONNX knows no inverses and no systems of equations. These are of 2 x 2 and 3 x 3 matrices.


def inverse(matrix: Tensor) -> Tensor:
    """Of matrices ``[..., 2, 2]``."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    adjugate = torch.stack([torch.stack([d, -b], dim=-1), torch.stack([-c, a], dim=-1)], dim=-2)
    return adjugate / (a * d - b * c)[..., None, None]


def solve(matrix: Tensor, wanted: Tensor, *, left: bool = True) -> Tensor:
    """``X`` for which ``matrix @ X = wanted``, by Gauss and Jordan.

    ``matrix [..., n, n]`` is positive definite, as normal equations are: no pivot need be looked for.
    """
    count = matrix.shape[-1]
    rows = list(torch.cat([matrix, wanted], dim=-1).unbind(-2))
    for i in range(count):
        rows[i] = rows[i] / rows[i][..., i : i + 1]
        rows = [row if j == i else row - row[..., i : i + 1] * rows[i] for j, row in enumerate(rows)]
    return torch.stack(rows, dim=-2)[..., count:]


DECOMPOSED = {torch.ops.aten.inverse.default: inverse, torch.ops.aten.linalg_solve.default: solve}
