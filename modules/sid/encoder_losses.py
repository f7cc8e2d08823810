"""What SID's encoders and motion head learn by themselves, from pictures and key points alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..config.sid import TrainParams
from ..contrast import identity_contrast
from ..data.augmentation import colour_view, semantic_view, similarity_view
from ..data.frames import MIN_GAP
from ..faces.window import aspect_of, cut_out
from . import losses
from .encoders import Encoders, Seen, Semantics
from .keypoints import Keypoints

CONGEALED = 32  # pixels of a side of the faces that are to look alike


class Embedded(NamedTuple):
    """Embeddings of B pairs: who the source is, the semantics of source and driving frame, and where the faces are.

    The places, ``[B, 4]`` or None (:class:`.sid.encoders.FaceFinder`), are where the identity encoder found the
    source's face, and the semantic encoder the source's and the driver's.
    """

    identity: Tensor
    source: Semantics
    driving: Semantics
    identity_place: Tensor | None
    source_place: Tensor | None
    driving_place: Tensor | None

    def first(self, items: int) -> Embedded:
        """Of the first items alone."""
        semantics = (Semantics(*(z[:items] for z in each)) for each in (self.source, self.driving))
        places = (self.identity_place, self.source_place, self.driving_place)
        return Embedded(self.identity[:items], *semantics, *(z if z is None else z[:items] for z in places))


def _halves(both: Semantics) -> tuple[Semantics, Semantics]:
    """Of two batches that were embedded as one."""
    expressions, poses = (z.chunk(2) for z in both)
    return Semantics(expressions[0], poses[0]), Semantics(expressions[1], poses[1])


def _view(view: Callable, seen: Seen, generator: torch.Generator) -> Seen:
    """``view`` of what was seen; the whole face beside it, of which z_exp was taught, stays as it is."""
    return seen._replace(picture=view(seen.picture, generator))


class EncoderLosses:
    """The weighted losses by name; ``encoders`` belong to the model, this only asks them."""

    def __init__(self, encoders: Encoders, params: TrainParams):
        self.encoders, self.params, self.weights = encoders, params, params.loss_weights

    def embed(self, source: Tensor, driving: Tensor, generator: torch.Generator) -> Embedded:
        """Who the sources are, and the semantics of both frames, as :meth:`_shown`."""
        identity, semantic = self.encoders.identity, self.encoders.semantic
        who, what = identity.look(source), semantic.look(torch.cat([source, driving]))
        semantics = _halves(semantic.embed(self._shown(what, generator)))
        places = (None, None) if what.place is None else what.place.chunk(2)
        return Embedded(identity.embed(who), *semantics, who.place, *places)

    def _shown(self, seen: Seen, generator: torch.Generator) -> Seen:
        """Faces in other colours: source and driver are one person, and z_sem could learn to hand over how they look.

        What does not learn any more is asked as it will be in use.
        """
        return _view(colour_view, seen, generator) if self.params.lr_encoders else seen

    def of_pictures(
        self, batch: dict[str, Tensor], embedded: Embedded, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What the encoders learn from pictures alone: who, what changes in a clip, and where the face is."""
        weights, frames, encoders, terms = self.weights, batch["frames"], self.encoders, {}
        if weights.identity_contrast:
            # the frames of one clip share a scene: only other clips show what the person is
            other = encoders.identity(batch.get("elsewhere", frames[:, 1]))
            pictures, people = torch.cat([embedded.identity, other]), batch["identity"].repeat(2)
            value = identity_contrast(pictures, people, self.params.temperature)
            terms["identity_contrast"] = weights.identity_contrast * value
        if weights.semantic_contrast:
            seen = encoders.semantic.look(frames.flatten(0, 1))
            looks = [_view(semantic_view, seen, generator) for _ in range(2)]
            views = [encoders.semantic.embed(look).expression for look in looks]
            pair = [view.unflatten(0, frames.shape[:2]) for view in views]
            value = losses.semantic_contrast(*pair, batch["times"], self.params.temperature, MIN_GAP)
            terms["semantic_contrast"] = weights.semantic_contrast * value
        return terms | self._similarity_losses(frames[:, 0], embedded, generator)

    def _similarity_losses(self, frames: Tensor, embedded: Embedded, generator: torch.Generator) -> dict[str, Tensor]:
        """Finders follow a known similarity transform of the sources, z_exp ignores it."""
        weights, encoders = self.weights, self.encoders
        if not (weights.placement or weights.congealing or weights.expression_invariance):
            return {}
        view, theta = similarity_view(frames, generator)
        seen = encoders.semantic.look(view)
        terms = {}
        if weights.placement or weights.congealing:
            both = [(embedded.identity_place, encoders.identity.finder(view)), (embedded.source_place, seen.place)]
            terms = self._finding_losses(frames, view, both, theta)
        if weights.expression_invariance:
            moved = encoders.semantic.embed(self._shown(seen, generator))
            value = losses.relative_distance(moved.expression, embedded.source.expression)
            terms["expression_invariance"] = weights.expression_invariance * value
        return terms

    def _finding_losses(
        self, frames: Tensor, view: Tensor, places: list[tuple[Tensor, Tensor]], theta: Tensor
    ) -> dict[str, Tensor]:
        """Faces are found where ``theta`` moves them, and look alike; each pair of places is of frames and view."""
        weights, terms = self.weights, {}
        if weights.placement:
            found = [losses.placement(*pair, theta, aspect_of(frames)) for pair in places]
            terms["placement"] = weights.placement * torch.stack(found).sum()
        if weights.congealing:
            both = torch.cat([frames, view])
            found = [losses.congealing(cut_out(both, torch.cat(pair), CONGEALED)) for pair in places]
            terms["congealing"] = weights.congealing * torch.stack(found).sum()
        return terms

    def head_keypoints(self, kp_source: Keypoints, before: Semantics, after: Semantics) -> Keypoints:
        # detached: the detector is taught by its own losses, not by what would be easy for the head
        return self.encoders.motion_head(kp_source.detach(), before, after)

    def of_motion(
        self, embedded: Embedded, kp_source: Keypoints, kp_driving: Keypoints
    ) -> tuple[Keypoints, dict[str, Tensor]]:
        """The motion head's key points, which agree with the detector's."""
        weights, terms = self.weights, {}
        head = self.head_keypoints(kp_source, embedded.source, embedded.driving)
        if weights.motion_value:
            terms["motion_value"] = weights.motion_value * (head.value - kp_driving.value.detach()).abs().mean()
        if weights.motion_jacobian and head.jacobian is not None:
            distance = losses.jacobian_distance(head.jacobian, kp_driving.jacobian)
            terms["motion_jacobian"] = weights.motion_jacobian * distance
        return head, terms
