"""CLIP's vision tower, of a folder or the hub."""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError
from torch import nn

from ..errors import UserError
from .hub import check_there


def load_clip(path: str, option: str) -> tuple[Any, nn.Module]:
    """Its image processor and the tower with projection, frozen.

    Raises:
        UserError: there is none; ``option`` is what named it.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    check_there(path, f"CLIP vision model ({option})")
    try:
        model = CLIPVisionModelWithProjection.from_pretrained(path, use_safetensors=True)
        size = model.config.image_size
        try:
            processor = CLIPImageProcessor.from_pretrained(path)
        except OSError:  # IP-Adapter's image encoders come without one: CLIP's usual values
            processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{option}: {path}: no CLIP vision model can be loaded ({reason})") from error
    return processor, model.eval().requires_grad_(False)
