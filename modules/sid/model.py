"""The SID model: its networks side by side, as checkpoints name them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config.sid import EncoderParams, ModelParams
from .discriminator import MultiScaleDiscriminator
from .encoders import Encoders, Semantics
from .generator import Condition, ConditionSize, Generator
from .keypoints import KeypointDetector


class SID(nn.Module):
    """Keypoint detector, generator and, with ``encoder_params``, the encoders.  The discriminator is training's own.

    ``encoders`` and ``condition_size`` are None for plain FOMM.
    """

    def __init__(self, params: ModelParams):
        super().__init__()
        common, encoder = params.common_params, params.encoder_params
        self.kp_detector = KeypointDetector(params.kp_detector_params, common.num_kp, common.estimate_jacobian)
        self.condition_size = encoder and condition_size(encoder)
        self.generator = Generator(params.generator_params, common.num_kp, self.condition_size)
        self.encoders = encoder and Encoders(encoder, common.num_kp, common.estimate_jacobian)

    def condition(self, z_id: Tensor, source: Semantics, shown: Semantics, place: Tensor | None) -> Condition:
        """The generator's condition: who the source is, its semantics, what it is to show, and where its face is.

        What is the source's has batch B or 1.
        """
        after = shown.cat()
        look = torch.cat([z_id.expand(len(after), -1), after], dim=1)
        return Condition(look, after - source.cat(), None if place is None else place.expand(len(after), -1))


def condition_size(params: EncoderParams) -> ConditionSize:
    """Widths of the condition that encoders of these sizes make."""
    moving = params.expression_dim if params.own_expression else 0
    return ConditionSize(params.identity_dim, params.expression_dim + params.pose_dim, moving)


def build_discriminator(params: ModelParams) -> MultiScaleDiscriminator:
    """The discriminator that belongs to ``SID(params)``."""
    common = params.common_params
    return MultiScaleDiscriminator(params.discriminator_params, common.num_kp)
