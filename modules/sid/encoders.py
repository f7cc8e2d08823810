"""Identity and semantic encoders, and the motion head that turns semantics into key points (SID)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.sid import EncoderParams
from ..faces.window import aspect_of, contrast, cut_out, whole_face, whole_face_oval
from ..geometry import AntiAliasDownsample, full_precision
from .blocks import widths
from .keypoints import Keypoints

GROUPS = 8  # of the group norms, which look at one image alone
POOLED = 4  # embeddings read a 4x4 grid of features: a global mean would forget where the mouth is
FINDER_SIDE = 64  # pixels a frame is shrunk to, to find the face in it
LARGEST_ZOOM = 0.5  # logarithm of the factor by which the window may differ from that
FACE_FEATURES, FACE_HIDDEN = 32, 256  # numbers in each cell of the face's grid, and in the hidden layer that reads it
Norm = Callable[[int], nn.Module]  # of so many features


class Seen(NamedTuple):
    """What an encoder reads of B frames.

    Attributes:
        picture: the face, cut out upright, ``[B, 3, face_pixels, face_pixels]``; if none is looked for, the frame,
            shrunk by ``scale_factor``.
        whole: the whole face, as large, for an expression encoder; None without one.
        place: of the face, ``[B, 4]`` (:class:`FaceFinder`); None if it is not looked for.
    """

    picture: Tensor
    whole: Tensor | None
    place: Tensor | None


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


def _group_norm(features: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, features)


def _convolutions(levels: list[int], norm: Norm = _group_norm) -> list[nn.Module]:
    """A halving for each of ``levels``, which are the numbers of features."""
    layers: list[nn.Module] = []
    for i, o in zip([3, *levels[:-1]], levels, strict=True):
        layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), norm(o), nn.SiLU()]
    return layers


def _looking(levels: list[int], norm: Norm = _group_norm) -> list[nn.Module]:
    """The same, and a look around each place of the last."""
    last = levels[-1]
    return [*_convolutions(levels, norm), nn.Conv2d(last, last, 3, padding=1), norm(last), nn.SiLU()]


def _face_grid(features: int) -> list[nn.Module]:
    """Few numbers for each place of a face."""
    return [nn.Conv2d(features, FACE_FEATURES, 1), nn.SiLU()]


def _reading(side: int, out_dim: int) -> nn.Sequential:
    """Reads the grid of a face; what all faces share is taken off, or at first every embedding would be the same."""
    numbers = FACE_FEATURES * (side // 8) ** 2
    return nn.Sequential(
        nn.BatchNorm1d(numbers), nn.Linear(numbers, FACE_HIDDEN), nn.SiLU(), nn.Linear(FACE_HIDDEN, out_dim)
    )


class FaceFinder(nn.Module):
    """Where the face is: ``[B, 3, H, W] -> place [B, 4]``: logarithm of the size, angle in radians, middle (x, y).

    A small spatial transformer (Jaderberg et al., 2015).  At first it is the middle of every frame; it is taught to
    follow known transforms of a frame (:func:`.sid.losses.placement`) and to make the faces it finds alike
    (:func:`.sid.losses.congealing`).
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*_convolutions([16, 32, 64, 64]))
        self.read = nn.Linear(64 * POOLED**2, 4)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(F.interpolate(image, size=(FINDER_SIDE,) * 2, mode="bilinear", antialias=True))
        with torch.autocast(image.device.type, enabled=False):
            place = self.read(full_precision(features).flatten(1))
            return torch.cat([LARGEST_ZOOM * torch.tanh(place[:, :1] / LARGEST_ZOOM), place[:, 1:]], dim=1)


class ImageEncoder(nn.Module):
    """Strided convolutions to a grid of features, from which numbers are read: ``[B, 3, H, W] -> [B, out_dim]``.

    With ``params.face_pixels`` it finds the face, cuts it out upright, and reads a grid with a place for every 8 pixels
    (lids and corners of the mouth have places of their own); else it looks at the whole frame and reads a 4x4 grid.
    """

    def __init__(self, params: EncoderParams, out_dim: int):
        super().__init__()
        self.side, self.finder, self.down = params.face_pixels, None, None
        if self.side is not None:
            self.finder = FaceFinder()
            levels = widths(params.block_expansion, params.max_features, 2)
            self.features = nn.Sequential(*_looking(levels), *_face_grid(levels[-1]))
            self.project = _reading(self.side, out_dim)
        else:
            if params.scale_factor != 1:
                self.down = AntiAliasDownsample(params.scale_factor)
            levels = widths(params.block_expansion, params.max_features, params.num_blocks - 1)
            self.features = nn.Sequential(*_looking(levels))
            self.project = nn.Linear(levels[-1] * POOLED**2, out_dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.embed(self.look(image))

    def look(self, image: Tensor) -> Seen:
        """What is read of ``image [B, 3, H, W]``: the face, where it is found, or the frame."""
        if self.finder is None:
            return Seen(image if self.down is None else self.down(image), None, None)
        place = self.finder(image)
        # what would be easy to read is no place for a face
        return self.see(image, place.detach())._replace(place=place)

    def see(self, image: Tensor, place: Tensor) -> Seen:
        """The face at ``place [B, 4]``."""
        return Seen(cut_out(image, place, self.side), None, place)

    def embed(self, seen: Seen) -> Tensor:
        """The numbers of what :meth:`look` gave, or of a view of it."""
        features = self.features(seen.picture)
        with torch.autocast(features.device.type, enabled=False):  # embeddings are compared and subtracted
            features = full_precision(features)
            if seen.place is None:
                features = F.adaptive_avg_pool2d(features, POOLED)
            return self.project(features.flatten(1))


class IdentityEncoder(ImageEncoder):
    """E_id: ``[B, 3, H, W] -> z_id [B, identity_dim]`` of unit length.

    With ``params.mirrored_identity`` it is, in evaluation mode, the mean of the found face's and its mirror image's.
    """

    def __init__(self, params: EncoderParams):
        super().__init__(params, params.identity_dim)
        self.mirrored = params.mirrored_identity

    def embed(self, seen: Seen) -> Tensor:
        z = F.normalize(super().embed(seen), dim=-1)
        if self.mirrored and not self.training:
            mirrored = super().embed(seen._replace(picture=seen.picture.flip(-1)))
            z = F.normalize(z + F.normalize(mirrored, dim=-1), dim=-1)
        return z


class ExpressionEncoder(nn.Module):
    """z_exp of whole faces cut out upright, ``[B, 3, S, S] -> [B, expression_dim]``, by features of its own.

    Faces are brought to one contrast first, and what is around them fades: an expression is a small change of the
    picture, of dark skin and in dim light a very small one, and hair, clothes and background differ by far more.
    """

    def __init__(self, params: EncoderParams):
        super().__init__()
        levels = widths(params.block_expansion, params.max_features, 2)
        self.features = nn.Sequential(*_looking(levels, nn.BatchNorm2d), *_face_grid(levels[-1]))
        self.project = _reading(params.face_pixels, params.expression_dim)
        self.register_buffer("oval", whole_face_oval(params.face_pixels), persistent=False)

    def forward(self, face: Tensor) -> Tensor:
        features = self.grid(face)
        with torch.autocast(face.device.type, enabled=False):  # embeddings are compared and subtracted
            return self.project(full_precision(features).flatten(1))

    def grid(self, face: Tensor) -> Tensor:
        """What it sees place by place: ``[B, FACE_FEATURES, S / 8, S / 8]``."""
        centred, deviation = contrast(face, self.oval)
        return self.features(self.oval * centred / deviation)


class SemanticEncoder(ImageEncoder):
    """E_sem: ``[B, 3, H, W]`` -> :class:`Semantics`.

    With ``params.own_expression`` the two share the place where the face was found, and nothing else: in SID z_exp is 0
    until :mod:`.sid.expressions` has taught it, and stays as taught, so that in training z_pose has to tell all
    that other losses ask for.  Each number of z_exp is the mean of what the face and its mirror image say: mistakes
    differ.
    """

    def __init__(self, params: EncoderParams):
        together = 0 if params.own_expression else params.expression_dim
        super().__init__(params, together + params.pose_dim)
        self.sizes = (params.expression_dim, params.pose_dim)
        self.expression = None
        if params.own_expression:
            self.expression = ExpressionEncoder(params).requires_grad_(False)
            # what becomes of each number of z_exp in a mirror: 1 or -1, or 0 as long as nothing is taught
            self.register_buffer("in_mirror", torch.zeros(params.expression_dim))
        self.placed = None if self.finder is None else nn.Linear(4, params.pose_dim)

    def train(self, mode: bool = True) -> SemanticEncoder:
        super().train(mode)
        if self.expression is not None:
            self.expression.eval()
        return self

    def see(self, image: Tensor, place: Tensor) -> Seen:
        """The face at ``place [B, 4]``, and with an expression encoder the whole face."""
        seen = super().see(image, place)
        if self.expression is None:
            return seen
        return seen._replace(whole=cut_out(image, whole_face(place, aspect_of(image)), self.side))

    def located(self, image: Tensor) -> tuple[Semantics, Tensor | None]:
        """The same with the place of the face, ``[B, 4]``; None if it is not looked for."""
        seen = self.look(image)
        return self.embed(seen), seen.place

    def embed(self, seen: Seen) -> Semantics:
        numbers = super().embed(seen)
        expression, pose = numbers[:, : -self.sizes[1]], self._placed(numbers, seen.place)
        if self.expression is not None:
            expression = self.read_expression(seen.whole)
        return Semantics(expression, pose)

    def read_expression(self, face: Tensor) -> Tensor:
        """z_exp alone, of whole faces cut out upright ``[B, 3, S, S]``."""
        if not torch.compiler.is_compiling() and not self.in_mirror.any():  # a graph holds no choice
            return face.new_zeros(len(face), self.sizes[0], dtype=torch.float32)
        says, mirrored = self.expression(torch.cat([face, face.flip(-1)])).unflatten(0, (2, -1))
        return (self.in_mirror.abs() * says + self.in_mirror * mirrored) / 2

    def embed_pose(self, seen: Seen) -> Tensor:
        """z_pose alone."""
        return self._placed(super().embed(seen), seen.place)

    def _placed(self, numbers: Tensor, place: Tensor | None) -> Tensor:
        pose = numbers[:, -self.sizes[1] :]
        if place is None:
            return pose
        with torch.autocast(pose.device.type, enabled=False):  # a face cut out upright no longer shows where it was
            return pose + self.placed(place.detach())


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

    def __init__(self, params: EncoderParams, num_kp: int, estimate_jacobian: bool):
        super().__init__()
        self.identity = IdentityEncoder(params)
        self.semantic = SemanticEncoder(params)
        self.motion_head = MotionHead(params, num_kp, estimate_jacobian)
