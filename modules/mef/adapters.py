"""The two adapters: an embedding becomes a few tokens, which cross-attention layers read through K and V of their own.

    out = Attn(Q, K_text, V_text) + s_id * Attn(Q, K_id, V_id) + s_exp * Attn(Q, K_exp, V_exp)

(decoupled cross-attention, IP-Adapter, Ye et al., 2023, eq. 5, with two image prompts).  Networks and arithmetic are
diffusers' own; here is what it has no public name for: new adapters, a choice of layers, and the way back to a file.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection
from torch import Tensor, nn

from ..config.mef import AdapterParams
from ..errors import UserError
from ..training.checkpoint import check_tensors, save_checkpoint
from .base import quiet
from .conditions import NAMES, Conditions, Scale, Widths, check_entry

PARTS = {"all": "", "down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}
FaceID = dict[str, dict[str, Tensor]]  # {"image_proj": ..., "ip_adapter": ...}: a file, and what diffusers loads


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """The cross-attention layers by name, in the order in which IP-Adapter files number them (1, 3, 5, ...)."""
    suffix = ".processor"
    names = [name.removesuffix(suffix) for name in unet.attn_processors if not name.endswith(f"attn1{suffix}")]
    return {name: unet.get_submodule(name) for name in names}


def injected_layers(unet: UNet2DConditionModel, inject: str | Sequence[str]) -> list[bool]:
    """Which cross-attention layers ``inject`` names: ``all``, ``mid``, ``up``, ``down`` or module names of blocks.

    Raises:
        UserError: a name that no cross-attention layer of this UNet lies in.
    """
    layers = list(cross_attention_layers(unet))
    chosen: set[str] = set()
    for block in [inject] if isinstance(inject, str) else inject:
        prefix = PARTS.get(block, block)
        inside = {name for name in layers if not prefix or f"{name}.".startswith(f"{prefix}.")}
        if not inside:
            blocks = sorted({name.split(".attentions.")[0] for name in layers})
            known = ", ".join([*PARTS, *blocks])
            raise UserError(f"model_params.inject: no cross-attention in a block {block!r}; there are {known}")
        chosen |= inside
    return [name in chosen for name in layers]


def attach_new(
    unet: UNet2DConditionModel, widths: Widths, params: Sequence[AdapterParams], inject: str | Sequence[str]
) -> Adapters:
    """Put two untrained adapters into a frozen UNet; the UNet's output is unchanged, since V starts at zero.

    K starts as the text's own, so that attention over the new tokens is sensible from the first step.
    """
    cross, injected = unet.config.cross_attention_dim, injected_layers(unet, inject)
    states: list[FaceID] = []
    for width, adapter in zip(widths, params, strict=True):
        projection = IPAdapterFaceIDImageProjection(width, cross, adapter.hidden_ratio, adapter.tokens)
        layers = {}
        for i, (attention, active) in enumerate(zip(cross_attention_layers(unet).values(), injected, strict=True)):
            key = attention.to_k.weight.detach().float()
            layers[f"{2 * i + 1}.to_k_ip.weight"] = key.clone() if active else torch.zeros_like(key)
            layers[f"{2 * i + 1}.to_v_ip.weight"] = torch.zeros_like(key)
        states.append({"image_proj": _to_file_names(projection.state_dict()), "ip_adapter": layers})
    return attach(unet, states)


def attach(unet: UNet2DConditionModel, states: Sequence[FaceID], where: Sequence[str] = NAMES) -> Adapters:
    """Put saved adapters into a frozen UNet.

    Raises:
        UserError: they are of another base (``where`` names their files).
    """
    for state, name in zip(states, where, strict=True):
        check_fits(unet, state, name)
    unet.requires_grad_(False)
    # what load_ip_adapter calls; a pipeline is not needed for it
    with quiet():
        unet._load_ip_adapter_weights([copy.deepcopy(state) for state in states], low_cpu_mem_usage=False)
    return Adapters(unet)


def check_fits(unet: UNet2DConditionModel, state: FaceID, where: str) -> None:
    """Raise UserError, naming ``where``, for an adapter that is not one, or is one of another base."""
    projection, layers = (
        state.get(part, {}) if isinstance(state, dict) else {} for part in ("image_proj", "ip_adapter")
    )
    check_tensors(projection, f"{where}: image_proj")
    check_tensors(layers, f"{where}: ip_adapter")
    if "norm.weight" not in projection or "proj.2.weight" not in projection or not layers:
        raise UserError(f"{where}: not an IP-Adapter FaceID file (image_proj.proj.*, image_proj.norm.*, ip_adapter.*)")
    width, cross = len(projection["norm.weight"]), unet.config.cross_attention_dim
    if width != cross:
        raise UserError(f"{where}: made for bases with cross-attention {width} wide; this base's is {cross} wide")
    for i, (name, attention) in enumerate(cross_attention_layers(unet).items()):
        key = layers.get(f"{2 * i + 1}.to_k_ip.weight")
        if key is None or key.shape != attention.to_k.weight.shape:
            found = "nothing" if key is None else list(key.shape)
            wanted = list(attention.to_k.weight.shape)
            raise UserError(f"{where}: made for another base: {name} needs {wanted}, the file has {found}")
    if len(layers) != 2 * (i + 1):
        raise UserError(f"{where}: made for another base: {len(layers) // 2} layers, this base has {i + 1}")


class Adapters(Conditions):
    """Both adapters inside a UNet: the very modules that it runs, seen together, float32.

    Attributes:
        layers: diffusers' IP-Adapter processors, one per cross-attention layer.
        injected: which of them hold anything.  The others are all zero and given scale 0, which is the same to the
            bit and costs nothing.
    """

    takes_masks = True

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        names = [f"{name}.processor" for name in cross_attention_layers(unet)]
        self.projections = unet.encoder_hid_proj.image_projection_layers
        self.layers = nn.ModuleList(unet.attn_processors[name] for name in names)
        self.injected = [any(bool(k.weight.any()) for k in layer.to_k_ip) for layer in self.layers]
        self.silence_uninjected()

    def set_scales(self, base: Any, identity: Scale, expression: Scale) -> None:
        self.put_back(base.unet)
        try:
            base.set_ip_adapter_scale([identity, expression])
        except (ValueError, KeyError) as error:
            raise UserError(f"scale: {' '.join(str(error).split())}") from error
        self.silence_uninjected()

    def silence_uninjected(self) -> None:
        """Give the layers that hold nothing scale 0: again after diffusers has set scales."""
        for layer, active in zip(self.layers, self.injected, strict=True):
            if not active:
                layer.scale = [0.0] * len(NAMES)

    def put_back(self, unet: UNet2DConditionModel) -> None:
        """Undo what attention slicing or fused projections of diffusers do to the layers that read the adapters.

        They have their effect on self-attention, where the memory goes.

        Raises:
            UserError: the adapters are no more in this UNet.
        """
        inside = getattr(unet.encoder_hid_proj, "image_projection_layers", None)
        if inside is not self.projections:
            raise UserError(
                "the adapters are no longer in the base's UNet (it was replaced, or adapters loaded into it)"
            )
        for layer, attention in zip(self.layers, cross_attention_layers(unet).values(), strict=True):
            if not hasattr(attention.processor, "to_k_ip"):
                attention.set_processor(layer)

    def trainable(self) -> list[nn.Parameter]:
        self.float()
        self.projections.requires_grad_(True)
        for layer, active in zip(self.layers, self.injected, strict=True):
            layer.requires_grad_(active)
        return [p for p in self.parameters() if p.requires_grad]

    def state(self) -> dict[str, FaceID]:
        """The adapters in the IP-Adapter FaceID layout, by ``<name>_adapter``."""
        entries = {}
        for a, name in enumerate(NAMES):
            layers = {}
            for i, layer in enumerate(self.layers):
                layers[f"{2 * i + 1}.to_k_ip.weight"] = layer.to_k_ip[a].weight.detach()
                layers[f"{2 * i + 1}.to_v_ip.weight"] = layer.to_v_ip[a].weight.detach()
            projection = _to_file_names(self.projections[a].state_dict())
            entries[f"{name}_adapter"] = {"image_proj": projection, "ip_adapter": layers}
        return entries

    @torch.no_grad()
    def load(self, entries: dict[str, Any], where: str) -> None:
        if f"{NAMES[0]}_adapter" not in entries:
            raise UserError(f"{where}: not a checkpoint of MEF's adapters: it has no {NAMES[0]}_adapter")
        saved = entries.get(f"{NAMES[0]}_adapter", {}).get("ip_adapter", {})
        held = [bool(saved.get(f"{2 * i + 1}.to_k_ip.weight", torch.zeros(1)).any()) for i in range(len(self.layers))]
        if held != self.injected:
            raise UserError(f"{where}: its adapters are in other layers than those of model_params.inject")
        for name, own in self.state().items():
            for part, tensors in own.items():
                saved = entries.get(name, {}).get(part, {})
                belongs = "belongs to another base, inject setting or adapter size"
                check_entry(saved, tensors, f"{where}: {name}.{part}", belongs)
                for key, tensor in tensors.items():
                    tensor.copy_(saved[key])

    def save(self, folder: Path) -> dict[str, Any]:
        for entry, state in self.state().items():
            save_checkpoint(state, folder / f"{entry}.safetensors")
        return {}


def _to_file_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A projection's names in diffusers -> in IP-Adapter files."""
    renamed = {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2", "norm": "norm"}
    return {f"{renamed[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in state.items()}
