"""The paper's form: a trainable copy of the base's encoder that reads the embeddings, joined by zero convolutions.

    eps = UNet(x_t, t, text) with s * Zero(Copy(x_t, t, [tokens of identity | tokens of expression])) added

to its skip connections and middle (DeepExpr, eqs. 2 and 3; ControlNet, Zhang et al., ICCV 2023).  The copy's
cross-attention sees faces instead of text, as in InstantID's IdentityNet (Wang et al., 2024).  It is a
``diffusers.ControlNetModel``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection
from torch import Tensor, nn

from ..atomic import appearing
from ..config.mef import AdapterParams, Fusion
from ..errors import UserError
from ..training.checkpoint import load_checkpoint, save_checkpoint
from .base import Base
from .conditions import NAMES, Conditions, Scale, Widths, check_entry

ENTRY = "branch"  # of a checkpoint; of a folder, the ControlNet's own
TOKENS_FILE = "branch_tokens.safetensors"  # of a folder: the projections
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
FORM_KEY, FUSION_KEY = "adapter", "fusion"  # of a folder's config.json
PICTURE_CHANNELS = 4  # of the layers that read a ControlNet's picture, which here shows nothing


class PositionalAttnProcessor:
    """Attention whose softmax is taken over positions instead of tokens: a map of where each token acts.

        A(Q, e) = hw / N * sum_n softmax_hw(Q k_n / sqrt(d)) v_n

    of N tokens and hw positions, k_n = W_K e_n, v_n = W_V e_n: our reading of the authors' eq. 1,
    ``softmax(Q k / sqrt(C)) v`` with one token an embedding, whose two attentions are summed.  Ours adds hw / N, so
    that a token counts 1 / N on average at every resolution, as it does in plain attention.
    """

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Features ``[B, hw, C]`` and tokens ``[B, N, D]`` -> ``[B, hw, C]``."""
        queries = attention.head_to_batch_dim(attention.to_q(hidden_states))
        keys, values = (
            attention.head_to_batch_dim(project(encoder_hidden_states)) for project in (attention.to_k, attention.to_v)
        )
        where = (attention.scale * queries @ keys.transpose(1, 2)).softmax(dim=1)
        scaled = where * (where.shape[1] / where.shape[2])
        read = attention.batch_to_head_dim(scaled @ values)
        for layer in attention.to_out:
            read = layer(read)
        return read


class Branch(Conditions):
    """The copy and the projections that make its tokens, outside the UNet.

    Args:
        fusion: ``plain``, one softmax over the tokens of both embeddings, as a ControlNet does it by itself; or
            ``positional``, :class:`PositionalAttnProcessor`.

    Attributes:
        scales: strengths of identity and expression; see :meth:`set_scales`.
    """

    def __init__(self, controlnet: ControlNetModel, projections: Sequence[nn.Module], fusion: Fusion):
        super().__init__()
        self.controlnet, self.projections, self.fusion = controlnet, nn.ModuleList(projections), fusion
        self.scales = (1.0, 1.0)
        if fusion == "positional":
            controlnet.set_attn_processor(
                {
                    name: PositionalAttnProcessor() if name.endswith("attn2.processor") else processor
                    for name, processor in controlnet.attn_processors.items()
                }
            )

    def tokens(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Embeddings ``[B, 1, width]`` -> what the copy's cross-attention reads, ``[B, N, cross_attention_dim]``."""
        pairs = zip(self.projections, (identity, expression), strict=True)
        return torch.cat([project(z.to(project.norm.weight.dtype)) for project, z in pairs], dim=1)

    def set_scales(self, base: Any, identity: Scale, expression: Scale) -> None:
        """What the copy adds is multiplied by the larger strength, and each embedding by its share of that.

        So both at 0 leave the base's picture as it is, to the bit; one at 0 is what training did where it left that
        condition out; and both at s are a ControlNet's ``conditioning_scale`` of s.
        """
        scales = identity, expression
        if not all(isinstance(s, int | float) and math.isfinite(s) and s >= 0 for s in scales):
            raise UserError(
                f"scale: a branch takes one number of 0 or more for each, found {identity} and {expression}"
            )
        self.scales = float(identity), float(expression)

    @contextlib.contextmanager
    def acting(self, unet: UNet2DConditionModel) -> Iterator[None]:
        hook = unet.register_forward_pre_hook(self._join, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _join(self, unet: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """A UNet's arguments, with what the copy adds: beside that of other ControlNets, if there are any."""
        strength = max(self.scales)
        if strength == 0:
            return args, kwargs
        (noisy, steps), added = args[:2], dict(kwargs["added_cond_kwargs"])
        embeds = [z * (scale / strength) for z, scale in zip(added.pop("image_embeds"), self.scales, strict=True)]
        down, mid = self.controlnet(
            noisy.to(self.controlnet.dtype),
            steps,
            self.tokens(*embeds),
            self.no_picture(noisy),
            conditioning_scale=strength,
            added_cond_kwargs={name: values.to(self.controlnet.dtype) for name, values in added.items()},
            return_dict=False,
        )
        down, mid = [values.to(noisy.dtype) for values in down], mid.to(noisy.dtype)
        others = kwargs.get("down_block_additional_residuals"), kwargs.get("mid_block_additional_residual")
        if others[1] is not None:
            down, mid = [a + b for a, b in zip(down, others[0], strict=True)], mid + others[1]
        return args, kwargs | {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    def no_picture(self, noisy: Tensor) -> Tensor:
        """The picture that a ControlNet asks for, ``[1, 3, H, W]`` of zeros.

        The paper has none.  Of any picture the layers that read it make zeros: their last one starts so, and is frozen.
        """
        scale = 2 ** (len(self.controlnet.config.conditioning_embedding_out_channels) - 1)
        height, width = (side * scale for side in noisy.shape[2:])
        return torch.zeros(1, 3, height, width, dtype=self.controlnet.dtype, device=noisy.device)

    def recompute_activations(self) -> None:
        self.controlnet.enable_gradient_checkpointing()

    def trainable(self) -> list[nn.Parameter]:
        self.float().requires_grad_(True)
        self.controlnet.controlnet_cond_embedding.requires_grad_(False)
        return [p for p in self.parameters() if p.requires_grad]

    def state(self) -> dict[str, dict[str, dict[str, Tensor]]]:
        return {ENTRY: {name: part.state_dict() for name, part in self._parts().items()}}

    def load(self, entries: dict[str, Any], where: str) -> None:
        if ENTRY not in entries:
            raise UserError(f"{where}: holds no {ENTRY}: it was trained with another model_params.adapter")
        for name, part in self._parts().items():
            saved, own = entries[ENTRY].get(name, {}), part.state_dict()
            check_entry(saved, own, f"{where}: {name}", "is of another base, or has other tokens")
            part.load_state_dict(saved)

    def save(self, folder: Path) -> dict[str, Any]:
        with appearing(folder / ENTRY) as made:
            self.controlnet.save_pretrained(made)
        save_checkpoint({name: self._parts()[name].state_dict() for name in NAMES}, folder / TOKENS_FILE)
        return {FORM_KEY: ENTRY, FUSION_KEY: self.fusion}

    def _parts(self) -> dict[str, nn.Module]:
        return {"controlnet": self.controlnet, **dict(zip(NAMES, self.projections, strict=True))}


def new_branch(base: Base, widths: Widths, params: Sequence[AdapterParams], fusion: Fusion) -> Branch:
    """An untrained branch beside a base, which it freezes: its zero convolutions leave the picture as it is.

    Keys and values of its cross-attention start as the text's own.
    """
    cross = base.unet.config.cross_attention_dim
    projections = [
        IPAdapterFaceIDImageProjection(width, cross, adapter.hidden_ratio, adapter.tokens)
        for width, adapter in zip(widths, params, strict=True)
    ]
    return _beside(base, projections, fusion, copied=True)


def attach_branch(base: Base, entries: dict[str, Any], where: str, fusion: Fusion) -> Branch:
    """A saved branch beside a base, in its precision and on its device.

    Args:
        entries: what :meth:`Branch.state` holds under ``branch``.

    Raises:
        UserError: it is of another base, or damaged (``where`` names its place).
    """
    try:
        projections = [_projection_like(entries[name]) for name in NAMES]
    except (KeyError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{where}: not a branch of DeepExpr: it lacks the layers that make tokens") from error
    branch = _beside(base, projections, fusion, copied=False)
    branch.load({ENTRY: entries}, where)
    return branch.to(base.unet.device, base.unet.dtype).eval()


def _beside(base: Base, projections: Sequence[nn.Module], fusion: Fusion, copied: bool) -> Branch:
    base.unet.requires_grad_(False)
    halvings = round(math.log2(base.vae_scale_factor))
    try:
        controlnet = ControlNetModel.from_unet(
            base.unet,
            conditioning_embedding_out_channels=(PICTURE_CHANNELS,) * (halvings + 1),
            load_weights_from_unet=copied,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"this base's UNet cannot have a branch ({reason})") from error
    return Branch(controlnet, projections, fusion)


def _projection_like(saved: dict[str, Tensor]) -> nn.Module:
    hidden, width = saved["ff.net.0.proj.weight"].shape
    cross = len(saved["norm.weight"])
    return IPAdapterFaceIDImageProjection(width, cross, hidden // width, len(saved["ff.net.2.weight"]) // cross)


def read_branch(folder: Path) -> dict[str, Any]:
    """What :meth:`Branch.save` wrote, as :meth:`Branch.state` gave it.  Raises UserError for what cannot be read."""
    saved = load_checkpoint(folder / ENTRY / WEIGHTS)
    controlnet = {f"{part}.{name}": value for part, tensors in saved.items() for name, value in tensors.items()}
    return {ENTRY: {"controlnet": controlnet} | load_checkpoint(folder / TOKENS_FILE)}


def fusion_of(description: dict[str, Any], where: str) -> Fusion:
    """The fusion that a folder's ``config.json`` names.  Raises UserError for an unknown one."""
    fusion = description.get(FUSION_KEY)
    if fusion not in get_args(Fusion):
        raise UserError(f"{where}: {FUSION_KEY}: expected {' or '.join(get_args(Fusion))}, found {fusion!r}")
    return fusion
