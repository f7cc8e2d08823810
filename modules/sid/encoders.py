"""Identity and semantic encoders, and the motion head that turns semantics into key points (SID)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.config import EncoderParams
from modules.geometry import full_precision
from modules.sid.blocks import AntiAliasDownsample, widths
from modules.sid.keypoints import Keypoints

GROUPS = 8  # of the group norms: unlike batch norm they let an embedding depend on its own image alone
POOLED = 4  # embeddings read a 4x4 grid of features: a global mean would forget where the mouth is


class Semantics(NamedTuple):
    """What the face does.

    Attributes:
        expression: ``[B, expression_dim]``.
        pose: ``[B, pose_dim]``, head pose and place in the frame.
    """

    expression: Tensor
    pose: Tensor

    def cat(self) -> Tensor:
        """``z_sem = [z_exp | z_pose]``."""
        return torch.cat(self, dim=-1)


class ImageEncoder(nn.Module):
    """Strided convolutions to a 4x4 grid of features, then one linear map: ``[B, 3, H, W] -> [B, out_dim]``."""

    def __init__(self, params: EncoderParams, out_dim: int, num_channels: int = 3):
        super().__init__()
        self.down = AntiAliasDownsample(num_channels, params.scale_factor) if params.scale_factor != 1 else None
        levels = widths(params.block_expansion, params.max_features, params.num_blocks - 1)
        layers: list[nn.Module] = []
        for i, o in zip([num_channels, *levels[:-1]], levels, strict=True):
            layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, o), nn.SiLU()]
        layers += [nn.Conv2d(levels[-1], levels[-1], 3, padding=1), nn.GroupNorm(GROUPS, levels[-1]), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.project = nn.Linear(levels[-1] * POOLED**2, out_dim)

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image if self.down is None else self.down(image))
        with torch.autocast(image.device.type, enabled=False):  # embeddings are compared and subtracted
            return self.project(full_precision(F.adaptive_avg_pool2d(features, POOLED).flatten(1)))


class IdentityEncoder(ImageEncoder):
    """E_id: ``[B, 3, H, W] -> z_id [B, identity_dim]`` of unit length."""

    def __init__(self, params: EncoderParams, num_channels: int = 3):
        super().__init__(params, params.identity_dim, num_channels)

    def forward(self, image: Tensor) -> Tensor:
        return F.normalize(super().forward(image), dim=-1)


class SemanticEncoder(ImageEncoder):
    """E_sem: ``[B, 3, H, W]`` -> :class:`Semantics`."""

    def __init__(self, params: EncoderParams, num_channels: int = 3):
        super().__init__(params, params.expression_dim + params.pose_dim, num_channels)
        self.sizes = (params.expression_dim, params.pose_dim)

    def forward(self, image: Tensor) -> Semantics:
        return Semantics(*super().forward(image).split(self.sizes, dim=-1))


class MotionHead(nn.Module):
    """Driving key points built on the source's own: each moved by itself, then all by one affine map ``A``.

    ``A`` is linear in the change of ``z_pose``, so that a turn of the head moves anybody's points; what is particular
    is ``h(kp_source, z_driving) - h(kp_source, z_source)``.  Both vanish without a change of semantics, and a strength
    or a second driver act on z alone.  The jacobian is moved multiplicatively: ``J = A (I + dJ) J_source``.
    """

    def __init__(self, params: EncoderParams, num_kp: int, estimate_jacobian: bool):
        super().__init__()
        per_point = 6 if estimate_jacobian else 2
        semantics = params.expression_dim + params.pose_dim
        self.layers = nn.Sequential(
            nn.Linear(num_kp * per_point + semantics, params.head_features),
            nn.SiLU(),
            nn.Linear(params.head_features, params.head_features),
            nn.SiLU(),
            nn.Linear(params.head_features, num_kp * per_point),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)
        self.affine = nn.Linear(params.pose_dim, 6, bias=False)
        nn.init.zeros_(self.affine.weight)
        self.num_kp = num_kp

    def shared_motion(self, before: Semantics, after: Semantics) -> Tensor:
        """``A - I`` as ``[B, 2, 3]``: where a change of pose takes every point, minus where it was."""
        with torch.autocast(after.pose.device.type, enabled=False):
            return self.affine(after.pose - before.pose).unflatten(1, (2, 3))

    def forward(self, source: Keypoints, z_source: Semantics, z_driving: Semantics) -> Keypoints:
        with torch.autocast(source.value.device.type, enabled=False):  # a small difference of two large outputs
            flat = torch.cat([t.flatten(1) for t in source if t is not None], dim=1)
            moved, rest = (self.layers(torch.cat([flat, z.cat()], dim=1)) for z in (z_driving, z_source))
            change = (moved - rest).unflatten(1, (self.num_kp, -1))
            shared = self.shared_motion(z_source, z_driving)[:, None]
            own = source.value + change[..., :2]
            value = own + (shared[..., :2] @ own.unsqueeze(-1)).squeeze(-1) + shared[..., 2]
            if source.jacobian is None:
                return Keypoints(value, None)
            identity = torch.eye(2, dtype=value.dtype, device=value.device)
            turn = identity + change[..., 2:].unflatten(-1, (2, 2))
            return Keypoints(value, (identity + shared[..., :2]) @ turn @ source.jacobian)


class Encoders(nn.Module):
    """Everything SID adds beside the generator's FiLM layers: both encoders and the motion head."""

    def __init__(self, params: EncoderParams, num_kp: int, num_channels: int, estimate_jacobian: bool):
        super().__init__()
        self.identity = IdentityEncoder(params, num_channels)
        self.semantic = SemanticEncoder(params, num_channels)
        self.motion_head = MotionHead(params, num_kp, estimate_jacobian)
