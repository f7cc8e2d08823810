"""Guidance with a weight per condition, inside any diffusers pipeline that guides by two halves of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


class GuidanceWeights(NamedTuple):
    text: float
    identity: float
    expression: float


@contextlib.contextmanager
def separate_guidance(unet: UNet2DConditionModel, weights: GuidanceWeights | None) -> Iterator[None]:
    """Within the block, the UNet's guidance follows

        e = e(-,-,-) + g_text (e(t,-,-) - e(-,-,-)) + g_id (e(t,i,-) - e(t,-,-)) + g_exp (e(t,i,x) - e(t,i,-))

    (InstructPix2Pix, Brooks et al., 2023, eq. 3, for three conditions).  With equal weights it is ordinary guidance.

    The pipeline goes on asking for two branches, unconditional and conditional; the UNet computes four, which costs
    twice the time, and answers with a conditional half that makes the pipeline's own formula, at ``g_text``, come out
    as above.  None leaves the UNet as it is.

    Args:
        weights: that of the text is the pipeline's ``guidance_scale``, which has to be above 1.
    """
    if weights is None:
        yield
        return
    g_text, g_identity, g_expression = weights

    def expand(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        count = len(args[0])
        args, kwargs = _branches((args, kwargs), count)
        embeds = kwargs["added_cond_kwargs"]["image_embeds"]
        quarter = count // 2
        embeds = [z.clone() for z in embeds]
        embeds[0][quarter : 2 * quarter] = 0  # (t,-,-)
        embeds[1][quarter : 3 * quarter] = 0  # (t,-,-) and (t,i,-)
        kwargs["added_cond_kwargs"] = kwargs["added_cond_kwargs"] | {"image_embeds": embeds}
        return args, kwargs

    def combine(module: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> tuple[Tensor, ...]:
        none, text, identity, both = output[0].chunk(4)
        wanted = (text - none) + (g_identity * (identity - text) + g_expression * (both - identity)) / g_text
        return (torch.cat([none, none + wanted]),)

    hooks = [
        unet.register_forward_pre_hook(expand, with_kwargs=True),
        unet.register_forward_hook(combine, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _branches(value: Any, count: int) -> Any:
    """Tensors with ``count`` items, two halves: the second half three times.  Everything else as it is."""
    if isinstance(value, Tensor) and value.ndim and len(value) == count:
        first, second = value.chunk(2)
        return torch.cat([first, second, second, second])
    if isinstance(value, dict):
        return {key: item if key == "ip_adapter_masks" else _branches(item, count) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_branches(item, count) for item in value)
    return value
