"""How good SFSR's estimates of x0 are, in the oval that it paints."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from modules.evaluation import face_tasks
from modules.evaluation.portrait_tasks import Asked
from modules.media.tensors import to_images
from modules.mef.inpainting import face_mask, hidden, small_masks
from modules.mef.painter import no_words

from ..mef.estimates import ESTIMATED, Portrayed


class Painted(Portrayed):
    """People of the face world in pictures of others, with others' expressions: what *both* asks for, rendered."""

    def __init__(self, checkpoint: Path, asked: Asked):
        super().__init__(checkpoint, asked)
        embedder, base = self.pipeline.embedder, self.pipeline.base
        shown = to_images(self.truth / 255)
        own = embedder.of_crops(shown, [f"render {i}" for i in range(len(shown))])["expression"]
        self.embeds[1] = embedder.joined(self.embeds[1][:, 0], own)[:, None]  # the pose is the picture's
        self.states = no_words(base)["prompt_embeds"].expand(len(shown), -1, -1)
        self.looked_at = torch.stack([face_mask(image, f"render {i}", base.device) for i, image in enumerate(shown)])
        with torch.no_grad():
            masked = self.latents(127.5 * (hidden(self.truth / 127.5 - 1, self.looked_at) + 1))
        self.background = torch.cat([small_masks(self.looked_at, masked.shape[2:]), masked], dim=1)

    def shown(self, noisy: Tensor) -> Tensor:
        return torch.cat([noisy, self.background[: len(noisy)]], dim=1)


def painted(checkpoint: Path) -> Painted:
    """People for :func:`benchmarks.mef.estimates.estimators`."""
    return Painted(checkpoint, face_tasks.ask(ESTIMATED, 1).asked(face_tasks.BOTH))
