"""The two adapters: an embedding becomes a few tokens, which cross-attention layers read through K and V of their own.

    out = Attn(Q, K_text, V_text) + s_id * Attn(Q, K_id, V_id) + s_exp * Attn(Q, K_exp, V_exp)

(decoupled cross-attention, IP-Adapter, Ye et al., 2023, eq. 5, with two image prompts).  The expression's may be an
exemplar adapter, which reads a picture's face place by place (:mod:`.exemplar`).  Networks and arithmetic are
diffusers' own; here is what it has no public name for: new adapters, a choice of layers, and the way back to a file.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..config.mef import AdapterParams, ExemplarParams
from ..errors import UserError
from ..training.checkpoint import check_tensors, save_checkpoint
from .base import quiet
from .conditions import NAMES, Conditions, Scale, Widths, check_entry
from .projections import check_projection, file_state, load_file_state, new_projection

PARTS = {"all": "", "down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}
AdapterState = dict[str, dict[str, Tensor]]  # {"image_proj": ..., "ip_adapter": ...}: a file, and what diffusers loads


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """The cross-attention layers by name, in the order in which IP-Adapter files number them (1, 3, 5, ...)."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    # a resampler that is already in there has attention too
    others = [name for name in names if not name.endswith("attn1") and not name.startswith("encoder_hid_proj.")]
    return {name: unet.get_submodule(name) for name in others}


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
    unet: UNet2DConditionModel,
    widths: Widths,
    params: Sequence[AdapterParams | ExemplarParams],
    inject: str | Sequence[str],
    expression_inject: str | Sequence[str] | None = None,
) -> Adapters:
    """Put two untrained adapters into a frozen UNet; the UNet's output is unchanged, since V starts at zero.

    K starts as the text's own, so that attention over the new tokens is sensible from the first step.
    """
    cross = unet.config.cross_attention_dim
    places = inject, inject if expression_inject is None else expression_inject
    states: list[AdapterState] = []
    for width, adapter, place in zip(widths, params, places, strict=True):
        projection, injected = new_projection(width, cross, adapter), injected_layers(unet, place)
        layers = {}
        for i, (attention, active) in enumerate(zip(cross_attention_layers(unet).values(), injected, strict=True)):
            key = attention.to_k.weight.detach().float()
            layers[f"{2 * i + 1}.to_k_ip.weight"] = key.clone() if active else torch.zeros_like(key)
            layers[f"{2 * i + 1}.to_v_ip.weight"] = torch.zeros_like(key)
        states.append({"image_proj": file_state(projection), "ip_adapter": layers})
    return attach(unet, states)


def attach(unet: UNet2DConditionModel, states: Sequence[AdapterState], where: Sequence[str] = NAMES) -> Adapters:
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


def check_fits(unet: UNet2DConditionModel, state: AdapterState, where: str) -> None:
    """Raise UserError, naming ``where``, for an adapter that is not one, or is one of another base."""
    projection, layers = (
        state.get(part, {}) if isinstance(state, dict) else {} for part in ("image_proj", "ip_adapter")
    )
    check_tensors(layers, f"{where}: ip_adapter")
    check_projection(projection if layers else {}, unet.config.cross_attention_dim, where)
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
        held: of each, whether it holds anything of identity and expression.  What it does not hold is all zero and
            given scale 0, which is the same to the bit and costs nothing.
    """

    takes_masks = True

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        names = [f"{name}.processor" for name in cross_attention_layers(unet)]
        self.projections = unet.encoder_hid_proj.image_projection_layers
        self.layers = nn.ModuleList(unet.attn_processors[name] for name in names)
        self.held = [[bool(k.weight.any()) for k in layer.to_k_ip] for layer in self.layers]
        self.silence_uninjected()

    @property
    def injected(self) -> list[bool]:
        """Which layers hold anything."""
        return [any(held) for held in self.held]

    def set_scales(self, base: Any, identity: Scale, expression: Scale) -> None:
        self.put_back(base.unet)
        try:
            base.set_ip_adapter_scale([identity, expression])
        except (ValueError, KeyError) as error:
            raise UserError(f"scale: {' '.join(str(error).split())}") from error
        self.silence_uninjected()

    def silence_uninjected(self) -> None:
        """Give what the layers do not hold scale 0: again after diffusers has set scales."""
        for layer, held in zip(self.layers, self.held, strict=True):
            layer.scale = [scale if active else 0.0 for scale, active in zip(layer.scale, held, strict=True)]

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
        for layer, held in zip(self.layers, self.held, strict=True):
            for key, value, active in zip(layer.to_k_ip, layer.to_v_ip, held, strict=True):
                key.requires_grad_(active)
                value.requires_grad_(active)
        return [p for p in self.parameters() if p.requires_grad]

    def state(self) -> dict[str, AdapterState]:
        """The adapters in the layout of IP-Adapter FaceID or Plus, by ``<name>_adapter``."""
        entries = {}
        for a, name in enumerate(NAMES):
            layers = {}
            for i, layer in enumerate(self.layers):
                layers[f"{2 * i + 1}.to_k_ip.weight"] = layer.to_k_ip[a].weight.detach()
                layers[f"{2 * i + 1}.to_v_ip.weight"] = layer.to_v_ip[a].weight.detach()
            projection = file_state(self.projections[a])
            entries[f"{name}_adapter"] = {"image_proj": projection, "ip_adapter": layers}
        return entries

    @torch.no_grad()
    def load(self, entries: dict[str, Any], where: str) -> None:
        if f"{NAMES[0]}_adapter" not in entries:
            raise UserError(f"{where}: not a checkpoint of MEF's adapters: it has no {NAMES[0]}_adapter")
        saved = [entries.get(f"{name}_adapter", {}).get("ip_adapter", {}) for name in NAMES]
        keys = [f"{2 * i + 1}.to_k_ip.weight" for i in range(len(self.layers))]
        if [[bool(layers.get(key, torch.zeros(1)).any()) for layers in saved] for key in keys] != self.held:
            raise UserError(f"{where}: its adapters are in other layers than those of model_params.inject")
        for name, own in self.state().items():
            for part, tensors in own.items():
                belongs = "belongs to another base, inject setting or adapter size"
                check_entry(entries.get(name, {}).get(part, {}), tensors, f"{where}: {name}.{part}", belongs)
        for a, name in enumerate(NAMES):
            state = entries[f"{name}_adapter"]
            load_file_state(self.projections[a], state["image_proj"])
            for i, layer in enumerate(self.layers):
                layer.to_k_ip[a].weight.copy_(state["ip_adapter"][f"{2 * i + 1}.to_k_ip.weight"])
                layer.to_v_ip[a].weight.copy_(state["ip_adapter"][f"{2 * i + 1}.to_v_ip.weight"])

    def save(self, folder: Path) -> dict[str, Any]:
        return self._save(self.state(), folder)

    @staticmethod
    def _save(states: dict[str, AdapterState], folder: Path) -> dict[str, Any]:
        for entry, state in states.items():
            save_checkpoint(state, folder / f"{entry}.safetensors")
        return {}
