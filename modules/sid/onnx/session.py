"""ONNX files run by onnxruntime, as modules of PyTorch."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from ...errors import UserError, cause

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
ENGINES = "tensorrt"  # folder beside the files, for what TensorRT makes of them


def needed(name: str) -> ModuleType:
    """A library that only ONNX needs.  Raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed; pip install onnx onnxscript onnxruntime") from error


def provider_for(wanted: Provider | None, cpu: bool = False) -> Provider:
    """What is to run the files: ``wanted``, or CUDA where PyTorch and onnxruntime have it, else the CPU.

    Raises:
        UserError: ``wanted`` is not there, or contradicts ``cpu``.
    """
    there = needed("onnxruntime").get_available_providers()
    if wanted is None:
        if cpu or not torch.cuda.is_available():
            return "cpu"
        if PROVIDERS["cuda"] in there:
            return "cuda"
        print("this onnxruntime has no CUDA: computing on the CPU; pip install onnxruntime-gpu", file=sys.stderr)
        return "cpu"
    if cpu and wanted != "cpu":
        raise UserError(f"--onnx_provider {wanted} needs a GPU, and --cpu uses none; give one of the two")
    if PROVIDERS[wanted] not in there:
        raise UserError(f"--onnx_provider {wanted}: this onnxruntime has none; pip install onnxruntime-gpu")
    return wanted


class Graph(nn.Module):
    """A file that is run: tensors by name -> tensors by name, float32, on the device of the inputs.

    They go by way of the CPU's memory, which costs nothing where onnxruntime computes there.

    Raises:
        UserError: the file cannot be run, or not by ``provider``.
    """

    def __init__(self, path: Path, provider: Provider = "cpu"):
        super().__init__()
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # threads that wait for work would keep those of the other files, and PyTorch's, from it
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        try:
            self.session = runtime.InferenceSession(path, options, _providers(provider, path.parent))
        except Exception as error:  # onnxruntime's have no base of their own
            raise UserError(f"{path}: onnxruntime cannot run it ({cause(error)}); export it again") from error
        if self.session.get_providers()[0] != PROVIDERS[provider]:
            raise UserError(f"--onnx_provider {provider}: onnxruntime cannot start it; see what it says above")
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]
        # animators compute where a model's parameters are
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)

    @property
    def mark(self) -> str | None:
        """What :func:`.graph.write_part` has put into the file."""
        return self.session.get_modelmeta().custom_metadata_map.get("deepexpr")

    def forward(self, **tensors: Tensor) -> dict[str, Tensor]:
        device = next(iter(tensors.values())).device
        given = {name: tensors[name].detach().float().cpu().contiguous().numpy() for name in self.inputs}
        made = self.session.run(self.outputs, given)
        return {name: torch.from_numpy(array).to(device) for name, array in zip(self.outputs, made, strict=True)}


def _providers(provider: Provider, folder: Path) -> list:
    """The wanted one first; after it those that take what it cannot do."""
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    after = [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    if provider == "cuda":
        return after
    # engines take minutes to build: once, not at every start
    kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder / ENGINES)}
    return [(PROVIDERS["tensorrt"], kept), *after]
