"""What makes tokens of an embedding: a small network for a vector, a resampler for an exemplar's sequence.

Both are diffusers' own, and in files both are named as IP-Adapter's are: FaceID's, and Plus's (Ye et al., 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection, IPAdapterPlusImageProjection
from torch import Tensor, nn

from ..config.mef import AdapterParams, ExemplarParams
from ..errors import UserError
from ..training.checkpoint import check_tensors

HEAD, BLOCKS = 64, 4  # width of a resampler's heads and number of its blocks: diffusers reads no others from a file
_FACE_ID = {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2"}  # name in diffusers -> in files
_FACE_ID_LAYERS = "proj.0", "proj.2", "norm"
_PLUS = {  # within a block
    "ln0": "0.norm1",
    "ln1": "0.norm2",
    "attn.to_q": "0.to_q",
    "attn.to_kv": "0.to_kv",
    "attn.to_out.0": "0.to_out",
    "ff.0": "1.0",
    "ff.1.net.0.proj": "1.1",
    "ff.1.net.2": "1.3",
}


def new_projection(width: int, cross: int, params: AdapterParams | ExemplarParams) -> nn.Module:
    """An untrained one, ``[B, width]``, or ``[B, cells, width]`` of an exemplar -> ``[B, tokens, cross]``."""
    if isinstance(params, AdapterParams):
        return IPAdapterFaceIDImageProjection(width, cross, params.hidden_ratio, params.tokens)
    return _resampler(width, cross, params.hidden, params.tokens)


def reads_exemplar(projection: nn.Module) -> bool:
    """Whether it takes a sequence ``[B, cells, width]`` instead of a vector ``[B, width]``."""
    return isinstance(projection, IPAdapterPlusImageProjection)


def first_layer(projection: nn.Module) -> nn.Linear:
    """The layer that reads the embedding."""
    return projection.proj_in if reads_exemplar(projection) else projection.ff.net[0].proj


def file_state(projection: nn.Module) -> dict[str, Tensor]:
    """Its weights, named as in IP-Adapter files."""
    state = projection.state_dict()
    if not reads_exemplar(projection):
        return {_renamed(name, _FACE_ID): value for name, value in state.items()}
    for block in range(BLOCKS):
        parts = [state.pop(f"layers.{block}.attn.{name}.weight") for name in ("to_k", "to_v")]
        state[f"layers.{block}.attn.to_kv.weight"] = torch.cat(parts)
    return {_renamed_in_block(name, _PLUS): value for name, value in state.items()}


def load_file_state(projection: nn.Module, saved: dict[str, Tensor]) -> None:
    """Take over weights that :func:`file_state` gave of one like it."""
    if not reads_exemplar(projection):
        inside = {outside: name for name, outside in _FACE_ID.items()}
        projection.load_state_dict({_renamed(name, inside): value for name, value in saved.items()})
        return
    inside = {outside: name for name, outside in _PLUS.items()}
    state = {_renamed_in_block(name, inside): value for name, value in saved.items()}
    for block in range(BLOCKS):
        both = state.pop(f"layers.{block}.attn.to_kv.weight").chunk(2)
        state |= {f"layers.{block}.attn.{name}.weight": half for name, half in zip(("to_k", "to_v"), both, strict=True)}
    projection.load_state_dict(state)


def widened(saved: dict[str, Tensor], projection: nn.Module, known: int) -> dict[str, Tensor]:
    """A projection of vectors that are ``known`` wide, as of :func:`file_state`, at the size of one that reads more.

    It makes the same tokens, whatever the further numbers are, until it has learnt: what reads them is ``projection``'s
    own, and goes nowhere.  What is of another width, or fits neither way, stays as it is.
    """
    made, (first, second) = file_state(projection), _FACE_ID_LAYERS[:2]
    weights = saved.get(f"{first}.weight"), saved.get(f"{second}.weight")
    if not all(isinstance(weight, Tensor) and weight.ndim == 2 for weight in weights) or weights[0].shape[1] != known:
        return saved
    hidden, tokens = len(weights[0]), len(weights[1])
    made = {name: values.clone() for name, values in made.items()}
    if hidden > len(made[f"{first}.weight"]) or tokens != len(made[f"{second}.weight"]):
        return saved
    made[f"{first}.weight"][:hidden] = 0
    made[f"{first}.weight"][:hidden, :known] = weights[0]
    made[f"{first}.bias"][:hidden] = saved[f"{first}.bias"]
    made[f"{second}.weight"].zero_()
    made[f"{second}.weight"][:, :hidden] = weights[1]
    return saved | {name: made[name] for name in (f"{first}.weight", f"{first}.bias", f"{second}.weight")}


def check_projection(saved: dict[str, Any], cross: int, where: str) -> None:
    """Raise UserError, naming ``where``, for what is no projection to tokens that are ``cross`` wide."""
    check_tensors(saved, f"{where}: image_proj")
    is_plus = "latents" in saved
    if is_plus:
        complete = {"proj_in.weight", "proj_out.weight"} <= set(saved)
    else:
        complete = set(saved) == {f"{layer}.{part}" for layer in _FACE_ID_LAYERS for part in ("weight", "bias")}
    if not complete:
        raise UserError(
            f"{where}: not an IP-Adapter FaceID file (image_proj.proj.*, image_proj.norm.*, ip_adapter.*)"
            " nor an IP-Adapter Plus file (image_proj.latents, image_proj.layers.*, ip_adapter.*)"
        )
    width = len(saved["proj_out.weight" if is_plus else "norm.weight"])
    if width != cross:
        raise UserError(f"{where}: made for bases with cross-attention {width} wide; this base's is {cross} wide")
    if is_plus:
        _check_resampler(saved, cross, where)


def _check_resampler(saved: dict[str, Tensor], cross: int, where: str) -> None:
    hidden = saved["latents"].shape[-1]
    heads_fit = saved["latents"].ndim == 3 and hidden % HEAD == 0
    if heads_fit:
        with torch.device("meta"):
            own = _resampler(saved["proj_in.weight"].shape[-1], cross, hidden, saved["latents"].shape[1])
        expected = {name: value.shape for name, value in file_state(own).items()}
    if not heads_fit or expected != {name: value.shape for name, value in saved.items()}:
        raise UserError(
            f"{where}: an IP-Adapter Plus file of another size: it needs {BLOCKS} blocks, heads {HEAD} wide"
        )


def _resampler(width: int, cross: int, hidden: int, tokens: int) -> nn.Module:
    return IPAdapterPlusImageProjection(width, cross, hidden, BLOCKS, HEAD, hidden // HEAD, tokens)


def _renamed(name: str, names: dict[str, str]) -> str:
    layer, _, part = name.rpartition(".")
    return f"{names.get(layer, layer)}.{part}" if layer else name


def _renamed_in_block(name: str, names: dict[str, str]) -> str:
    if not name.startswith("layers."):
        return name
    layers, block, rest = name.split(".", 2)
    return f"{layers}.{block}.{_renamed(rest, names)}"
