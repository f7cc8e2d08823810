"""What a small base's denoiser makes of faces, as SID reads them: squared errors of latents hardly see a mouth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn

from ...config.small_base import FaceFeatureParams
from ...data.portraits import Portrait
from ..embeddings import SIDEncoders
from ..estimators import clean_of
from ..expression_error import ExpressionError
from .common import read_picture

SAMPLE = 512  # pictures whose expressions tell their spread
BATCH = 16  # pictures read together


class FaceFeatures(nn.Module):
    """Errors of z_exp and z_pose (:class:`ExpressionError`) and 1 - cosine of z_id, between decoded estimate and truth.

    The estimate is the x0 that the prediction means; the truth is decoded as well, so that what the autoencoder loses
    counts on neither side.  It is a perceptual loss on x0, in features of a frozen network that knows faces.  Where the
    caption names the expression, the estimate learns to show it before it can be seen in the noise.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        noise: DDPMScheduler,
        sid: SIDEncoders,
        params: FaceFeatureParams,
        portraits: list[Portrait],
        resolution: int,
    ):
        super().__init__()
        self.autoencoder, self.noise, self.params = autoencoder, noise, params
        self.sid = sid.eval().requires_grad_(False)
        self.expression_error = ExpressionError(sid.semantic.sizes, self._sample(portraits, resolution))

    def forward(self, clean: Tensor, noisy: Tensor, prediction: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """``expression`` and ``identity``, weighted means over the items that are looked at: the first of those whose
        noise is in range, a ``share`` of the batch at most.

        Args:
            clean, noisy: x0 and x_t, scaled latents ``[B, C, h, w]``.
            prediction, steps: what the denoiser predicts of x_t, and t ``[B]``.
        """
        most = max(1, round(self.params.share * len(steps)))
        chosen = (steps < self.params.max_timestep).nonzero()[:most, 0]
        if not len(chosen):
            return {"expression": prediction.sum() * 0.0, "identity": prediction.sum() * 0.0}
        estimate = clean_of(self.noise, noisy[chosen], prediction[chosen], steps[chosen])
        found = self._read(self._decode(estimate))
        with torch.no_grad():
            wanted = self._read(self._decode(clean[chosen]))
        return {
            "expression": self.params.expression * self.expression_error(found[1], wanted[1]).mean(),
            "identity": self.params.identity * (1 - F.cosine_similarity(found[0], wanted[0])).mean(),
        }

    def train(self, mode: bool = True) -> FaceFeatures:
        """As of any module, but SID reads faces as it always does: batch norms of its own statistics."""
        super().train(mode)
        self.sid.eval()
        return self

    def _decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> pictures in [0, 1]."""
        return self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor).sample.clamp(-1, 1) / 2 + 0.5

    def _read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        identity, expression = self.sid.of_pictures(pictures.float())
        return identity.float(), expression.float()

    @torch.no_grad()
    def _sample(self, portraits: list[Portrait], resolution: int) -> Tensor:
        """Expressions of some of the pictures ``[N, width]``."""
        some = portraits[:: max(1, len(portraits) // SAMPLE)]
        parts = [some[start : start + BATCH] for start in range(0, len(some), BATCH)]
        pictures = (torch.stack([read_picture(portrait, resolution) for portrait in part]) / 2 + 0.5 for part in parts)
        return torch.cat([self._read(part)[1] for part in pictures])
