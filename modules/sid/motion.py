"""Motion transfer at inference: which key points and which condition a driving frame gives the source."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..world.control.chain import Chain
from .encoders import Semantics
from .generator import Condition
from .keypoints import Keypoints
from .model import SID
from .motion_options import MotionOptions


class Source(NamedTuple):
    """All that is computed once of source images ``[B, 3, H, W]``; ``z_id`` and ``semantics`` are None in FOMM.

    B is 1, or as many as driving frames.  ``place [B, 4]`` is of its face, None where the encoders do not look for it.
    """

    image: Tensor
    features: list[Tensor]
    keypoints: Keypoints
    z_id: Tensor | None
    semantics: Semantics | None
    place: Tensor | None


class Driver(NamedTuple):
    """What is read off a batch of driving frames; ``semantics`` is None without encoders."""

    keypoints: Keypoints
    semantics: Semantics | None

    def saying(self, semantics: Semantics) -> Driver:
        """The same key points, with other semantics."""
        return self._replace(semantics=semantics)

    def row(self, index: int) -> Driver:
        """One frame's."""
        rows = slice(index, index + 1)
        semantics = self.semantics
        return Driver(
            self.keypoints.map(lambda t: t[rows]),
            None if semantics is None else Semantics(*(z[rows] for z in semantics)),
        )


def read_source(model: SID, image: Tensor) -> Source:
    """Encode ``image [B, 3, H, W]``."""
    encoders = model.encoders
    z_id = semantics = place = None
    if encoders is not None:
        z_id, (semantics, place) = encoders.identity(image), encoders.semantic.located(image)
    return Source(image, model.generator.encode(image), model.kp_detector(image), z_id, semantics, place)


def read_driver(model: SID, frames: Tensor) -> Driver:
    """Key points and semantics of ``frames [B, 3, H, W]``."""
    return Driver(model.kp_detector(frames), None if model.encoders is None else model.encoders.semantic(frames))


def transfer(
    model: SID,
    source: Source,
    driver: Driver,
    first: Driver,
    options: MotionOptions,
    pose: Driver | None = None,
    first_pose: Driver | None = None,
    chain: Chain | None = None,
) -> tuple[Keypoints, Condition | None]:
    """Key points and condition that give the source what the driver does.

    Args:
        driver: B frames.
        first: one frame, the origin of relative motion.
        pose: B frames of a second driver that replace the pose of ``driver``.
        first_pose: one frame of that, the origin of its relative motion; None takes its pose as it is.
        chain: what is done to semantics on their way; None: what the options say.

    Returns:
        key points for the generator, and its condition (None without encoders).
    """
    motion = options.resolved(model.encoders is not None)
    condition = semantics = None
    if model.encoders is not None:
        others = (other and other.semantics for other in (pose, first_pose))
        semantics = compose(source.semantics, driver.semantics, first.semantics, options, *others, chain)
        condition = model.condition(source.z_id, source.semantics, semantics, source.place)
    if motion == "embedding":
        batch = len(semantics.pose)
        kp_source = source.keypoints.map(lambda t: t.expand(batch, *t.shape[1:]))
        before = Semantics(*(z.expand(batch, -1) for z in source.semantics))
        return model.encoders.motion_head(kp_source, before, semantics), condition
    relative_jacobian = options.relative if options.relative_jacobian is None else options.relative_jacobian
    keypoints = normalize_keypoints(
        source.keypoints,
        driver.keypoints,
        first.keypoints,
        adapt_scale=options.adapt_scale,
        relative_value=options.relative,
        relative_jacobian=relative_jacobian,
    )
    if options.strength != 1:
        pairs = zip(source.keypoints, keypoints, strict=True)
        keypoints = Keypoints(*(s if s is None else s + options.strength * (d - s) for s, d in pairs))
    return keypoints, condition


def compose(
    source: Semantics,
    driver: Semantics,
    first: Semantics,
    options: MotionOptions,
    pose: Semantics | None = None,
    first_pose: Semantics | None = None,
    chain: Chain | None = None,
) -> Semantics:
    """The semantics to render: driver (or source + change of the driver), per part, by way of a chain.

    A second driver for the pose, ``pose``, changes since its own first frame; without one (it is a picture) its
    absolute pose is meant.  Without a ``chain``, what the options say is done (:func:`embedding_chain`).
    """
    wanted = Semantics(driver.expression, driver.pose if pose is None else pose.pose)
    if options.relative:
        origin = first if pose is None else first_pose
        wanted = Semantics(
            source.expression + wanted.expression - first.expression,
            wanted.pose if origin is None else source.pose + wanted.pose - origin.pose,
        )
    if options.drive == "expression" and pose is None:
        wanted = Semantics(wanted.expression, source.pose.expand_as(wanted.pose))
    if options.drive == "pose":
        wanted = Semantics(source.expression.expand_as(wanted.expression), wanted.pose)
    chain = chain or embedding_chain(options, source)
    codes = chain.composed(source.cat(), wanted.cat())
    return Semantics(*codes.split([z.shape[-1] for z in source], dim=-1))


def embedding_chain(options: MotionOptions, semantics: Semantics, change: Tensor | None = None) -> Chain:
    """The chain of a model whose z_exp is an embedding.  Raises UserError where it cannot do what is asked."""
    sizes = (z.shape[-1] for z in semantics)
    return Chain.of_embedding(options.control, options.strength, *sizes, change).to(semantics.expression.device)


def hull_area(value: Tensor) -> float:
    """Area of the convex hull of key points ``[1, K, 2]``."""
    from scipy.spatial import ConvexHull, QhullError  # which few need, and takes time

    try:
        hull = ConvexHull(value[0].detach().double().cpu().numpy())
    except (QhullError, ValueError) as error:
        raise UserError(
            "the key points lie on one point or line, which has no face size to compare; train longer"
        ) from error
    return float(hull.volume)  # scipy calls a 2D hull's area volume


def normalize_keypoints(
    source: Keypoints,
    driving: Keypoints,
    driving_initial: Keypoints,
    *,
    adapt_scale: bool = False,
    relative_value: bool = True,
    relative_jacobian: bool = True,
) -> Keypoints:
    """FOMM's relative motion: what changed since the driver's first frame, applied to the source (FOMM eq. 12).

    Args:
        source: batch 1 or B.
        driving_initial: batch 1.
        driving: batch B.
        adapt_scale: multiply movements by the root of the ratio of the source's and driver's hull areas.
        relative_value, relative_jacobian: False takes the driver's own positions or jacobians.
    """
    value, jacobian = driving.value, driving.jacobian
    if relative_value:
        movement = driving.value - driving_initial.value
        if adapt_scale:
            areas = torch.tensor([hull_area(value[None]) for value in source.value]).to(movement)
            movement = movement * (areas / hull_area(driving_initial.value)).sqrt()[:, None, None]
        value = source.value + movement
    if relative_jacobian and jacobian is not None:
        jacobian = jacobian @ torch.inverse(driving_initial.jacobian) @ source.jacobian
    return Keypoints(value, jacobian)


def pose_distance(a: Keypoints, b: Keypoints) -> Tensor:
    """How differently two faces are posed, ``[B]``: squared distance of key points centred and scaled to unit hull."""

    def shape(value: Tensor) -> Tensor:
        centred = value - value.mean(dim=1, keepdim=True)
        sizes = torch.tensor([hull_area(v[None]) for v in value], dtype=value.dtype, device=value.device)
        return centred / sizes.sqrt()[:, None, None]

    return (shape(a.value) - shape(b.value)).square().sum(dim=(1, 2))
