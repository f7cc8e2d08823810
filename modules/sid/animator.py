"""The animate flow: frames in, key points and semantics, motion transfer, generator, frames out; all of it streamed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..errors import UserError
from ..faces.detail import Detail
from ..media.tensors import to_images, to_tensor
from .generator import Condition, Generated
from .keypoints import Keypoints
from .model import SID
from .motion import Driver, MotionOptions, Source, pose_distance, read_driver, read_source, transfer

Pictures = tuple[Any, Any]  # of a source: at the model's size, and larger or None


class Animator:
    """A source person, encoded once, driven by any number of frames.

    Example::

        animator = Animator(model, source_image)
        for result in animator.animate(frames):
            ...

    Args:
        model: in evaluation mode, on its device.
        source: a picture, as :func:`.media.as_image` takes it, at the model's size.
        batch_size: driving frames computed together; results do not depend on it.
        large: the same picture, larger: results then come in its size, with its detail (:mod:`.faces.detail`), and
            stay as they are at their edges, to be pasted back.
    """

    def __init__(
        self,
        model: SID,
        source: Any,
        options: MotionOptions | None = None,
        batch_size: int = 8,
        large: Any = None,
    ):
        options = options or MotionOptions()
        options.resolved(model.encoders is not None)  # say at once what cannot work
        self.model, self.options, self.batch_size = model, options, batch_size
        self.device = next(model.parameters()).device
        self.source, (self.detail,) = self._read([(source, large)])
        self.best: Driver | None = None

    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Nothing: the encoders need not have seen a driver before."""

    @torch.inference_mode()
    def start_from_best(self, frames: Iterable[np.ndarray]) -> int:
        """Find the driving frame posed most like the source, the origin of the next :meth:`animate`'s relative motion.

        Return its index.
        """
        best, index = float("inf"), 0
        for number, batch in enumerate(batches(frames, self.batch_size)):
            driver = read_driver(self.model, to_tensor(batch, self.device))
            distances = pose_distance(driver.keypoints, self.source.keypoints).tolist()
            for i, distance in enumerate(distances):
                if distance < best:
                    best, index, self.best = distance, number * self.batch_size + i, _one(driver, i)
        return index

    @torch.inference_mode()
    def animate(
        self,
        frames: Iterable[np.ndarray],
        pose_frames: Iterable[np.ndarray] | None = None,
        pose_moves: bool = False,
        sources: Iterable[Pictures] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield one result, uint8 ``[H, W, 3]``, per driving frame; at most a batch of frames is held at a time.

        ``pose_frames``, as many as ``frames``, give the head pose in place of the driver's; where ``pose_moves``, they
        are a video's, and relative motion starts from the first of them.  ``sources``, a frame each, are the person as
        they are then, in place of the one picture: a video of them.  A batch of them is read first, then its drivers.
        """
        first, self.best = self.best, None
        first_pose = None
        source, details = self.source, [self.detail]
        for batch, pose_batch, group in together(frames, pose_frames, sources, self.batch_size):
            if group is not None:
                source, details = self._read(group)
            driver = read_driver(self.model, to_tensor(batch, self.device))
            first = first or _one(driver, 0)
            pose = None
            if pose_batch is not None:
                pose = read_driver(self.model, to_tensor(pose_batch, self.device))
                if pose_moves:
                    first_pose = first_pose or _one(pose, 0)
            made = self._render(source, driver, first, pose, first_pose)
            if not made.prediction.isfinite().all():
                raise UserError("the model's pictures are not finite, though its weights are; use another checkpoint")
            yield from _images(made, details)

    @torch.inference_mode()
    def _read(self, pictures: list[Pictures]) -> tuple[Source, list[Detail | None]]:
        """Everything that is computed once of sources."""
        source = read_source(
            self.model, to_tensor([media.as_image(image, "source") for image, _ in pictures], self.device)
        )
        if all(large is None for _, large in pictures):
            return source, [None] * len(pictures)
        details: list[Detail | None] = []
        for unmoved, (_, large) in zip(self._unmoved(source).split(1), pictures, strict=True):
            whole = None if large is None else to_tensor([media.as_image(large, "large")], self.device)
            details.append(None if whole is None else Detail(whole, unmoved, rests=True))
        return source, details

    def _render(
        self, source: Source, driver: Driver, first: Driver, pose: Driver | None, first_pose: Driver | None
    ) -> Generated:
        """The source as the driver has it."""
        return self._generate(source, *transfer(self.model, source, driver, first, self.options, pose, first_pose))

    def _unmoved(self, source: Source) -> Tensor:
        """The model's pictures of sources as they are, ``[B, 3, H, W]``."""
        condition = None
        if source.semantics is not None:
            condition = self.model.condition(source.z_id, source.semantics, source.semantics, source.place)
        return self._generate(source, source.keypoints, condition).prediction

    def _generate(self, source: Source, keypoints: Keypoints, condition: Condition | None) -> Generated:
        count = len(keypoints.value)
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


class Animates(Protocol):
    """A source that can be driven: by SID, rigged or not, or by way of a fitted head."""

    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None: ...

    def start_from_best(self, frames: Iterable[np.ndarray]) -> int: ...

    def animate(
        self, frames: Iterable[np.ndarray], pose_frames: Iterable[np.ndarray] | None = None, pose_moves: bool = False
    ) -> Iterator[np.ndarray]: ...


def pairs(animator: Animates, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every driving frame with its result; as streamed as ``animate``."""
    waiting: deque[np.ndarray] = deque()  # driving frames whose results are still being computed

    def remembered() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame

    for picture in animator.animate(remembered()):
        yield waiting.popleft(), picture


def together(
    frames: Iterable[np.ndarray],
    pose_frames: Iterable[np.ndarray] | None,
    sources: Iterable[Pictures] | None,
    size: int,
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray] | None, list[Pictures] | None]]:
    """At most ``size`` frames at a time, with as many of the pose's and of the source's, where there are any."""
    frames, poses = iter(frames), None if pose_frames is None else iter(pose_frames)
    groups = itertools.repeat(None) if sources is None else batches(sources, size)
    for group in groups:
        batch = list(itertools.islice(frames, size if group is None else len(group)))
        if not batch:
            return
        beside = None if poses is None else list(itertools.islice(poses, len(batch)))
        yield batch, beside, None if group is None else group[: len(batch)]


def batches(frames: Iterable, size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while batch := list(itertools.islice(frames, size)):
        yield batch


def _one(driver: Driver, index: int) -> Driver:
    def pick(t: Tensor) -> Tensor:
        return t[index : index + 1]

    semantics = driver.semantics
    return Driver(driver.keypoints.map(pick), semantics and type(semantics)(*map(pick, semantics)))
