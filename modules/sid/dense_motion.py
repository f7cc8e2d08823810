"""Dense motion: from sparse key point motions to one flow field and an occlusion map (FOMM section 3.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.sid import DenseMotionParams
from ..faces.window import aspect_of, whole_face, window
from ..geometry import AntiAliasDownsample, coordinate_grid, full_precision, gaussian_heatmaps, resize_grid, sample
from .blocks import Hourglass
from .keypoints import Keypoints, shared_motion

MOTION_GRID = 32  # points of a side at which motion within a face's square is kept
INVERSIONS = 3  # steps towards where a moved point was before it moved
FASTER = 10  # times as fast as plain weights: steps of Adam are of one size, too small for factors about 1


class DenseMotion(NamedTuple):
    """What the dense motion network says of a batch, at its own resolution h x w.

    Attributes:
        deformation: backward flow ``[B, h, w, 2]``: where in the source each driving pixel comes from; with
            ``moving_dim`` at the source's resolution.
        occlusion: ``[B, 1, h, w]`` in [0, 1], 0 where the source cannot supply the pixel; None if not estimated.
        mask: which of the K+1 motions applies, ``[B, K+1, h, w]``; entry 0 is the background.
        semantic_flow: the part of the deformation that was read from embeddings, ``[B, h, w, 2]``; None without them.
        face_flow: the part by which :class:`FaceFlow` moves the face, ``[B, H, W, 2]``; None without it.
    """

    deformation: Tensor
    occlusion: Tensor | None
    mask: Tensor
    semantic_flow: Tensor | None
    face_flow: Tensor | None


def sparse_motions(
    source: Keypoints, driving: Keypoints, height: int, width: int, background: Literal["still", "shared"] = "still"
) -> Tensor:
    """Backward flow of each key point's affine neighbourhood, background first: ``[B, K+1, h, w, 2]`` (FOMM eq. 4).

    The background stands still, or is ``shared``: it moves as all key points together, as if the camera had moved
    (cf. Siarohin et al., CVPR 2021, "Motion Representations for Articulated Animation", where a network predicts it).
    """
    identity = coordinate_grid(height, width, driving.value)
    offset = identity - driving.value[:, :, None, None, :]
    if driving.jacobian is not None:
        with torch.autocast(driving.value.device.type, enabled=False):
            transfer = source.jacobian @ torch.inverse(driving.jacobian)
        offset = (transfer[:, :, None, None] * offset.unsqueeze(-2)).sum(-1)
    motions = offset + source.value[:, :, None, None, :]
    behind = identity.expand(motions.shape[0], 1, -1, -1, -1)
    if background == "shared":
        with torch.autocast(driving.value.device.type, enabled=False):
            change = shared_motion(driving, source)[:, None, None, None]
            behind = behind + (change[..., :2] @ behind.unsqueeze(-1)).squeeze(-1) + change[..., 2]
    return torch.cat([behind, motions], dim=1)


class SemanticFlow(nn.Module):
    """The motion that no key point carries (lids, lips): a flow read from features modulated by a change of semantics.

    Linear in the change, without biases: no change, no flow. Zero-initialised: at first there is none at all.
    """

    def __init__(self, semantic_dim: int, features: int):
        super().__init__()
        self.scale = nn.Linear(semantic_dim, features, bias=False)
        self.shift = nn.Linear(semantic_dim, features, bias=False)
        self.flow = nn.Conv2d(features, 2, kernel_size=7, padding=3, bias=False)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, change: Tensor) -> Tensor:
        """``features [B, C, h, w]`` and ``change [B, semantic_dim]`` give a flow ``[B, h, w, 2]``."""
        scale, shift = (layer(change)[:, :, None, None] for layer in (self.scale, self.shift))
        return full_precision(self.flow(features * scale + shift)).permute(0, 2, 3, 1)


class FlowReading(nn.Conv2d):
    """Features ``[B, C, height, width]`` of a ``flow [B, H, W, 2]``, which is averaged over a smaller map's cells.

    It is measured in those cells.  Zero-initialised, and without bias: where nothing moves there is nothing to read.
    """

    def __init__(self, features: int):
        super().__init__(2, features, kernel_size=7, padding=3, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, flow: Tensor, height: int, width: int) -> Tensor:
        x, y = F.adaptive_avg_pool2d(flow.permute(0, 3, 1, 2), (height, width)).unbind(1)
        return super().forward(torch.stack([x * (width / 2), y * (height / 2)], dim=1))


class FaceFlow(nn.Module):
    """The motions of a face that numbers stand for, where the source's face is.

    They are found, not trained (:mod:`.sid.expressions`), and at first zero.  What is learnt is how much of each
    (an optical flow, and what can be told of it, fall short of what there is), and where moving so uncovers what the
    source does not show (teeth, closed lids).

    Attributes:
        motions: ``[moving_dim, 2, G, G]``, displacements (x, y) for each number at 1, in the coordinates of the whole
            face's square (:func:`.faces.window.whole_face`).
        more: how much of every motion is added for each number, to 1 of its own; ``FASTER`` times what is stored.
        occlusion: logits of the occlusion map, added to the network's.
    """

    def __init__(self, moving_dim: int):
        super().__init__()
        self.register_buffer("motions", torch.zeros(moving_dim, 2, MOTION_GRID, MOTION_GRID))
        self.more = nn.Linear(moving_dim, moving_dim, bias=False)
        nn.init.zeros_(self.more.weight)
        self.occlusion = FlowReading(1)

    def forward(self, change: Tensor, place: Tensor, grid: Tensor, aspect: float) -> Tensor:
        """Backward flow ``[B, h, w, 2]`` at points ``grid [B, h, w, 2]`` of source frames.

        ``change [B, moving_dim]``: numbers of what is to be shown minus the source's; ``place [B, 4]`` of its face;
        ``aspect``: how many times a frame is as wide as high.
        """
        with torch.autocast(grid.device.type, enabled=False):
            square = window(whole_face(place.detach(), aspect), aspect)[:, None, None]
            scale, middle = square[..., :2], square[..., 2]
            within = (torch.inverse(scale) @ (grid - middle).unsqueeze(-1)).squeeze(-1)
            amounts = change.float() + FASTER * self.more(change.float())
            moved = torch.einsum("bk,kcyx->bcyx", amounts, self.motions)
            origin = within
            for _ in range(INVERSIONS):
                # where a point is shown is known, and its motion where it comes from
                origin = within - sample(moved, origin).permute(0, 2, 3, 1)
            return (scale @ (origin - within).unsqueeze(-1)).squeeze(-1)


class DenseMotionNetwork(nn.Module):
    """Chooses softly, per pixel, among the K key point motions and the background's.

    With ``semantic_dim`` a :class:`SemanticFlow` is added to that, and with ``moving_dim``, which needs an occlusion
    map, a :class:`FaceFlow`; without them this is FOMM's network, name by name.
    """

    def __init__(
        self,
        params: DenseMotionParams,
        num_kp: int,
        estimate_occlusion_map: bool,
        semantic_dim: int | None = None,
        moving_dim: int = 0,
    ):
        super().__init__()
        in_features = (num_kp + 1) * (1 + 3)  # a heat map and a moved picture for each motion
        self.hourglass = Hourglass(params.block_expansion, in_features, params.num_blocks, params.max_features)
        self.mask = nn.Conv2d(self.hourglass.out_filters, num_kp + 1, kernel_size=7, padding=3)
        self.occlusion = None
        if estimate_occlusion_map:
            self.occlusion = nn.Conv2d(self.hourglass.out_filters, 1, kernel_size=7, padding=3)
        self.semantic_flow = None if semantic_dim is None else SemanticFlow(semantic_dim, self.hourglass.out_filters)
        self.face_flow = FaceFlow(moving_dim) if moving_dim else None
        self.kp_variance, self.background = params.kp_variance, params.background
        self.down = AntiAliasDownsample(params.scale_factor) if params.scale_factor != 1 else None

    def heatmap_difference(self, source: Keypoints, driving: Keypoints, height: int, width: int) -> Tensor:
        """Gaussians at the driving minus those at the source points, background zero: ``[B, K+1, 1, h, w]``."""
        driven, original = (gaussian_heatmaps(kp.value, height, width, self.kp_variance) for kp in (driving, source))
        difference = driven - original
        return torch.cat([torch.zeros_like(difference[:, :1]), difference], dim=1).unsqueeze(2)

    def forward(
        self,
        source_image: Tensor,
        source: Keypoints,
        driving: Keypoints,
        change: Tensor | None = None,
        place: Tensor | None = None,
    ) -> DenseMotion:
        """If built for it, ``change [B, semantic_dim]`` is semantics of the result minus the source's.

        And ``place [B, 4]`` is that of the source's face, with ``moving_dim``.
        """
        size, aspect = source_image.shape[2:], aspect_of(source_image)
        if self.down is not None:
            source_image = self.down(source_image)
        height, width = source_image.shape[2:]
        heatmaps = self.heatmap_difference(source, driving, height, width)
        motions = sparse_motions(source, driving, height, width, self.background)
        copies = source_image.unsqueeze(1).expand(-1, motions.shape[1], -1, -1, -1)
        deformed = sample(copies.flatten(0, 1), motions.flatten(0, 1)).view_as(copies)

        features = self.hourglass(torch.cat([heatmaps.to(deformed.dtype), deformed], dim=2).flatten(1, 2))
        mask = torch.softmax(full_precision(self.mask(features)), dim=1)
        deformation = (motions * mask[..., None]).sum(dim=1)
        flow = None
        if self.semantic_flow is not None:
            flow = self.semantic_flow(features, change)
            deformation = deformation + flow
        occlusion = None if self.occlusion is None else full_precision(self.occlusion(features))
        face_flow = None
        if self.face_flow is not None:
            # lips are a few pixels of the frame, and none of the network's
            deformation = resize_grid(deformation, *size, align_corners=True)
            face_flow = self.face_flow(change[:, : len(self.face_flow.motions)], place, deformation, aspect)
            deformation = deformation + face_flow
            # teeth behind lips, lids before eyes
            occlusion = occlusion + full_precision(self.face_flow.occlusion(face_flow, height, width))
        shown = None if occlusion is None else occlusion.sigmoid()
        return DenseMotion(deformation, shown, mask, flow, face_flow)
