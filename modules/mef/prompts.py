"""Embeddings for several prompts at once, which diffusers takes one of for all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..errors import UserError


def for_prompts(embeddings: Sequence[Tensor], prompt: Any, images: int) -> list[Tensor]:
    """One row for all pictures, or one per picture in the order of diffusers: all pictures of a prompt in a row.

    Raises:
        UserError: neither one embedding nor as many as prompts.
    """
    count = len(prompt) if isinstance(prompt, list) else 1
    for z in embeddings:
        if len(z) not in (1, count):
            raise UserError(f"{len(z)} embeddings for {count} prompt(s): give one for all prompts, or one for each")
    if all(len(z) == 1 for z in embeddings):
        return list(embeddings)
    return [z.expand(count, *z.shape[1:]).repeat_interleave(images, dim=0) for z in embeddings]


@contextlib.contextmanager
def handed_on(base: Any, embeddings: list[Tensor], pictures: int) -> Iterator[None]:
    """Within the block, embeddings of several ``pictures`` reach the UNet as they are.

    Diffusers takes one embedding for the whole batch, and would give every picture those of all the others too.
    """
    if pictures == 1:
        yield
        return
    base.prepare_ip_adapter_image_embeds = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del base.prepare_ip_adapter_image_embeds
