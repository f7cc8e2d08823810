"""The SID model: its networks side by side, as checkpoints name them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.config import ModelParams
from modules.sid.discriminator import MultiScaleDiscriminator
from modules.sid.encoders import Encoders, Semantics, condition_dim
from modules.sid.generator import Generator
from modules.sid.keypoints import KeypointDetector


class SID(nn.Module):
    """Keypoint detector, generator and, with ``encoder_params``, the encoders.  The discriminator is training's own.

    ``encoders`` is None for plain FOMM.
    """

    def __init__(self, params: ModelParams):
        super().__init__()
        common, encoder = params.common_params, params.encoder_params
        self.kp_detector = KeypointDetector(
            params.kp_detector_params, common.num_kp, common.num_channels, common.estimate_jacobian
        )
        self.generator = Generator(
            params.generator_params, common.num_kp, common.num_channels, encoder and condition_dim(encoder)
        )
        self.encoders = encoder and Encoders(encoder, common.num_kp, common.num_channels, common.estimate_jacobian)

    def condition(self, z_id: Tensor, semantics: Semantics) -> Tensor:
        """The generator's condition ``[B, d]`` from identity and semantics (batch 1 of the identity is repeated)."""
        return torch.cat([z_id.expand(len(semantics.pose), -1), semantics.cat()], dim=1)


def build_discriminator(params: ModelParams) -> MultiScaleDiscriminator:
    """The discriminator that belongs to ``SID(params)``."""
    common = params.common_params
    return MultiScaleDiscriminator(params.discriminator_params, common.num_kp, common.num_channels)
