"""Animating by SID's networks: key points and semantics, motion transfer, generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..data.expression_pictures import pictures_of_state
from ..errors import UserError
from ..faces.detail import Detail
from ..media.tensors import to_images, to_tensor
from ..world.control.chain import Chain
from ..world.puppets.states import States
from ..world.showing import state_of
from .driving import ModelAnimator, Pictures
from .encoders import Encoders, Semantics
from .generator import Condition, Generated
from .keypoints import Keypoints
from .model import SID
from .motion import (
    Driver,
    MotionOptions,
    Source,
    embedding_chain,
    pose_distance,
    read_driver,
    read_source,
    transfer,
)

PEOPLE = 6  # rendered people, in whose mean an expression is read


class Person(NamedTuple):
    """Sources, read; and of each, or one of all, the detail of a larger picture, where there is one."""

    source: Source
    details: list[Detail | None]


class Animator(ModelAnimator[Driver, Person]):
    """A source person, encoded once, driven by any number of frames; arguments are :class:`.driving.ModelAnimator`'s.

    ``batch_size`` is 8, and 1 on a CPU in fp32, unless it is given.  A larger picture's detail
    (:mod:`.faces.detail`) is moved along.

    Example::

        animator = Animator(model, source_image)
        for result in animator.animate(frames):
            ...
    """

    def __init__(
        self,
        model: SID,
        source: Any,
        options: MotionOptions | None = None,
        batch_size: int | None = None,
        large: Any = None,
        half: torch.dtype | None = None,
        change: Tensor | None = None,
    ):
        options = options or MotionOptions()
        options.resolved(model.encoders is not None)  # say at once what cannot work
        self.model = model
        if batch_size is None:  # in fp32 a frame fills a CPU's caches, and more of them take longer
            batch_size = 1 if half is None and next(model.parameters()).device.type == "cpu" else 8
        super().__init__(model, source, options, batch_size, large, half, change)

    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Nothing: the encoders need not have seen a driver before."""

    def code_of_state(self, state: States) -> Tensor:
        """Change of z_exp ``[1, E]`` from a face without expression, in the mean of rendered people."""
        return self._expression_of(state) - self._rest

    @torch.inference_mode()
    def code_of_picture(self, picture: np.ndarray) -> Tensor:
        """Change of z_exp ``[1, E]`` from that of rendered people without expression."""
        with self._autocast():
            said = self._encoders().semantic(to_tensor([picture], self.device)).expression
        return said - self._rest

    @cached_property
    def _rest(self) -> Tensor:
        """z_exp ``[1, E]`` of people without expression, in the mean."""
        return self._expression_of(state_of([]))

    @torch.inference_mode()
    def _expression_of(self, state: States) -> Tensor:
        semantic, size = self._encoders().semantic, self.person.source.image.shape[-1]
        with self._autocast():
            return semantic(pictures_of_state(state, PEOPLE, size, self.device)).expression.mean(dim=0, keepdim=True)

    def _encoders(self) -> Encoders:
        if self.model.encoders is None:
            raise UserError(
                "--expression needs a model with encoders, or --motion mesh; key points know no expressions"
            )
        return self.model.encoders

    def _saying(self, code: Tensor, shares: Tensor) -> Driver:
        source, count = self.person.source, len(shares)
        shown = source.semantics.expression.expand(count, -1)
        said = torch.lerp(shown, self._rest + code, shares[:, None])
        return self._as_read(Semantics(said, source.semantics.pose.expand(count, -1)))

    def _as_read(self, semantics: Semantics) -> Driver:
        count = len(semantics.pose)
        return Driver(self.person.source.keypoints.map(lambda t: t.expand(count, *t.shape[1:])), semantics)

    def _chain(self, change: Tensor | None) -> Chain:
        semantics = self.person.source.semantics
        if semantics is None:  # of key points, where nothing is asked for
            return Chain.of_embedding(self.options.control, self.options.strength, 0, 0)
        if self.options.control.edits and change is None:
            raise UserError("--edit: the numbers of this model mean nothing by themselves; give its table's change")
        return embedding_chain(self.options, semantics, change)

    def _meet(self, pictures: list[Pictures]) -> Person:
        images = to_tensor([media.as_image(image, "source") for image, _ in pictures], self.device)
        with self._autocast():
            source = read_source(self.model, images)
        if all(large is None for _, large in pictures):
            return Person(source, [None] * len(pictures))
        details: list[Detail | None] = []
        for unmoved, (_, large) in zip(self._unmoved(source).split(1), pictures, strict=True):
            whole = None if large is None else to_tensor([media.as_image(large, "large")], self.device)
            details.append(None if whole is None else Detail(whole, unmoved, rests=True))
        return Person(source, details)

    def _read(self, frames: list[np.ndarray], for_pose: bool) -> Driver:
        with self._autocast():
            return read_driver(self.model, to_tensor(frames, self.device))

    def _distances(self, read: Driver) -> Tensor:
        source = self.person.source
        posed = pose_distance(read.keypoints, source.keypoints)
        if read.semantics is None or source.semantics is None:
            return posed
        shown, own = read.semantics.expression, source.semantics.expression
        power = shown.square().sum(dim=1) + own.square().sum(dim=1)  # between which apart lies, from 0 to 2 of it
        return posed + (shown - own).square().sum(dim=1) / power.clamp(min=torch.finfo(power.dtype).tiny)

    def _results(
        self, person: Person, driver: Driver, first: Driver, pose: Driver | None, first_pose: Driver | None
    ) -> Iterator[np.ndarray]:
        moved = transfer(self.model, person.source, driver, first, self.options, pose, first_pose, self.chain)
        made = self._generate(person.source, *moved)
        if not made.prediction.isfinite().all():
            raise self._not_finite()
        yield from _images(made, person.details)

    def _unmoved(self, source: Source) -> Tensor:
        """The model's pictures of sources as they are, ``[B, 3, H, W]``."""
        condition = None
        if source.semantics is not None:
            condition = self.model.condition(source.z_id, source.semantics, source.semantics, source.place)
        return self._generate(source, source.keypoints, condition).prediction

    def _generate(self, source: Source, keypoints: Keypoints, condition: Condition | None) -> Generated:
        count = len(keypoints.value)
        with self._autocast():
            return self.model.generator(
                source.image.expand(count, -1, -1, -1),
                source.keypoints.map(lambda t: t.expand(count, *t.shape[1:])),
                keypoints,
                condition,
                [level.expand(count, -1, -1, -1) for level in source.features],
            )


def _images(made: Generated, details: list[Detail | None]) -> Iterator[np.ndarray]:
    """What is made, as uint8; with detail one picture at a time, for each may be as large as a photograph.

    ``details`` are of each, or one of all.
    """
    if details[0] is None:
        yield from to_images(made.prediction)
        return
    if made.motion is None:
        raise UserError("a model without dense motion cannot move a source's detail; take --no-paste_back")
    flow, shown = made.motion.deformation, made.motion.occlusion
    for i, detail in enumerate(details * len(flow) if len(details) == 1 else details):
        row = slice(i, i + 1)
        yield from to_images(detail.add(made.prediction[row], flow[row], None if shown is None else shown[row]))
