"""The supervised ceiling: a model's own encoders in the place of a meter's, so that they are taught by the truth."""

from __future__ import annotations

from ...config.sid import EncoderParams
from ...sid.encoders import IdentityEncoder, SemanticEncoder


def model_encoders(params: EncoderParams) -> tuple[IdentityEncoder, SemanticEncoder]:
    """SID's encoders, all of which learn; in SID z_exp is taught before (:mod:`.sid.expressions`)."""
    identity, semantic = IdentityEncoder(params), SemanticEncoder(params)
    if params.own_expression:
        semantic.expression.requires_grad_(True)
        semantic.in_mirror.fill_(1)  # an action unit is as strong in a mirror
    return identity, semantic
