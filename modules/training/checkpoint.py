"""The one place that reads and writes weights: atomic, safe to open, FOMM's layout in and out.

A checkpoint is a nested dict of tensors and plain values.  FOMM's entries keep FOMM's names (``generator``,
``kp_detector``, ``discriminator``, ``optimizer_*``, ``epoch``), so its own loader takes ours; we add ``encoders``,
``ema`` (averaged weights of the same layout), ``model_params`` and ``training`` (where to resume).
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic import replacing, writing_errors
from ..errors import UserError
from .checkpoint_file import check_file

CONFIG_KEY = "model_params"


def save_checkpoint(checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Write a checkpoint; ``.safetensors`` keeps tensors and ``model_params`` alone, anything else everything."""
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import save as to_bytes

        flat = {f"{part}.{name}": tensor.contiguous() for part, name, tensor in _tensors(checkpoint)}
        metadata = {CONFIG_KEY: json.dumps(checkpoint[CONFIG_KEY])} if CONFIG_KEY in checkpoint else None
        with replacing(path) as temporary, writing_errors(path):
            temporary.write_bytes(to_bytes(flat, metadata))
    else:
        with replacing(path) as temporary, writing_errors(path), open(temporary, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # the archive that cannot be closed, which hides why it could not be written
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise


def _tensors(checkpoint: dict[str, Any]) -> Iterator[tuple[str, str, torch.Tensor]]:
    for part, entries in checkpoint.items():
        if isinstance(entries, dict):
            yield from ((part, name, value) for name, value in entries.items() if isinstance(value, torch.Tensor))


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code it may hold.

    Raises:
        UserError: no such file, not a checkpoint, cut short, or a pickle of something other than tensors and plain
            values (which is refused by name).
    """
    path = Path(path)
    check_file(path)
    try:
        checkpoint = _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path)
    except Exception as error:  # of damaged bytes the readers raise anything
        raise UserError(f"{path}: {_what_is_wrong(error)}") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint: holds a {type(checkpoint).__name__}, not a dict of networks")
    return checkpoint


def _what_is_wrong(error: Exception) -> str:
    """What a file that cannot be read is, and what to do about it; one line."""
    if isinstance(error, pickle.UnpicklingError):
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        return f"refused: not a file of tensors and plain values alone ({reason.strip() or 'unreadable pickle'})"
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return f"neither a PyTorch nor a safetensors file that can be read ({reason}): copy or download it again"


def _load_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a damaged pickle's strange version; the error says enough
        return torch.load(path, map_location="cpu", weights_only=True)


def _load_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    checkpoint: dict[str, Any] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (a handle, not a dict)
            part, _, name = key.partition(".")
            checkpoint.setdefault(part, {})[name] = file.get_tensor(key)
        config = (file.metadata() or {}).get(CONFIG_KEY)
    if config is not None:
        checkpoint[CONFIG_KEY] = json.loads(config)
    return checkpoint


def averaged(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The averaged weights of a checkpoint, or those it has."""
    ema = checkpoint.get("ema")
    return ema if isinstance(ema, dict) and ema else checkpoint


def check_tensors(entries: Any, what: str) -> None:
    """UserError for what is not a dict of tensors, or holds numbers that are not finite: those draw black pictures."""
    if not isinstance(entries, dict):
        raise UserError(f"{what} is a {type(entries).__name__}, not a network's weights")
    for name, value in entries.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{what}: {name} is a {type(value).__name__}, not a tensor")
        if not value.float().isfinite().all():  # not every type can tell
            raise UserError(f"{what}: {name} is not finite: its training diverged; use an earlier checkpoint")


def restore(
    module: nn.Module,
    entries: dict[str, torch.Tensor] | None,
    what: str,
    may_lack: Callable[[str], bool] = lambda name: False,
) -> list[str]:
    """Load ``entries`` into ``module`` strictly; return the names that were missing and allowed to be.

    Raises:
        UserError: a name too many, one too few that ``may_lack`` does not excuse, another shape, or values that are
            not finite; ``what`` says which network of which file.
    """
    expected = module.state_dict()
    entries = entries or {}
    check_tensors(entries, what)
    for name, value in entries.items():
        if name not in expected:
            raise UserError(f"{what} does not fit the configuration: it has {name}, which the configured model lacks")
        if value.shape != expected[name].shape:
            shapes = f"{list(value.shape)}, the configured model {list(expected[name].shape)}"
            raise UserError(f"{what} does not fit the configuration: {name} has shape {shapes}")
    missing = [name for name in expected if name not in entries]
    for name in missing:
        if not may_lack(name):
            raise UserError(f"{what} does not fit the configuration: it lacks {name}")
    module.load_state_dict(entries, strict=False)
    return missing
