"""How a source is driven, whatever moves it: frames in, results out, all of it streamed."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..world.control.chain import Chain
from ..world.puppets.states import States
from .encoders import Semantics
from .motion_options import MotionOptions

Pictures = tuple[Any, Any]  # of a source: at the model's size, and larger or None
Read = TypeVar("Read", bound="Row")  # what is read off a batch of driving frames
Person = TypeVar("Person")  # what is computed once of sources


class Row(Protocol):
    """What is read off B frames."""

    @property
    def semantics(self) -> Semantics | None: ...

    def row(self, index: int) -> Any:
        """The same of one of them."""

    def saying(self, semantics: Semantics) -> Any:
        """The same with other semantics."""


class Animates(Protocol):
    """A source that can be driven: by SID, rigged or not, or by way of a fitted head.

    Expressions without a driver are codes ``[1, E]``, numbers whose meaning is the animator's own but for this: zeros
    are a face without expression, and sums are mixtures.  ``chain`` is what is done to a driver's codes.
    """

    chain: Chain

    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None: ...

    def start_from_best(self, frames: Iterable[np.ndarray]) -> int: ...

    def animate(
        self, frames: Iterable[np.ndarray], pose_frames: Iterable[np.ndarray] | None = None, pose_moves: bool = False
    ) -> Iterator[np.ndarray]: ...

    def code_of_state(self, state: States) -> Tensor: ...

    def code_of_picture(self, picture: np.ndarray) -> Tensor: ...

    def show(self, code: Tensor, shares: Iterable[float]) -> Iterator[np.ndarray]: ...


class ModelAnimator(ABC, Generic[Read, Person]):
    """A source person, read once, driven by any number of frames by a model of SID's.

    Args:
        model: in evaluation mode, on its device.
        source: a picture, as :func:`.media.as_image` takes it, at the model's size.
        options: how it is driven.
        batch_size: driving frames read together; results do not depend on it.
        half: what to compute networks of pictures in, in place of float32.
        change: [K], what edits add to ``z_sem``; None: as far as the model's own numbers tell them.
        large: the same picture, larger: results then come in its size, and stay as they are at their edges, to be
            pasted back.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        source: Any,
        options: MotionOptions,
        batch_size: int,
        large: Any,
        half: torch.dtype | None,
        change: Tensor | None = None,
    ):
        self.options, self.batch_size = options, batch_size
        self.device = next(model.parameters()).device
        self.half = half
        with torch.inference_mode():
            self.person = self._meet([(source, large)])
        self.chain = self._chain(change).to(self.device)
        self.heard: list[Semantics] | None = None  # a list that is begun is told all that is read off drivers
        self._best: Read | None = None

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    def _not_finite(self) -> UserError:
        remedy = "use another checkpoint" if self.half is None else "take --precision fp32, or another checkpoint"
        return UserError(f"the model's pictures are not finite, though its weights are; {remedy}")

    @abstractmethod
    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Look at some of a driver's frames, before it is shown whole."""

    def without_rest(self, said: Semantics) -> Semantics:
        """A driver's whole motion ``[T, ...]`` without what face and head are like at rest, which tells who it is.

        An embedding stays as it is: without its rest it would be no expression.
        """
        return said

    @abstractmethod
    def _meet(self, pictures: list[Pictures]) -> Person:
        """Everything that is computed once of sources, one for every driving frame, or one for all."""

    @abstractmethod
    def _read(self, frames: list[np.ndarray], for_pose: bool) -> Read:
        """What is read off driving frames."""

    @abstractmethod
    def _chain(self, change: Tensor | None) -> Chain:
        """What is done to a driver's codes.  Raises UserError where the model cannot do what is asked."""

    @abstractmethod
    def _as_read(self, semantics: Semantics) -> Read:
        """What would be read off a driver who says so, with the source's own points."""

    def _told(self, frames: list[Any], for_pose: bool) -> Read:
        """What driving frames say, which may be semantics ``[1, ...]`` themselves."""
        if not isinstance(frames[0], Semantics):
            return self._read(frames, for_pose)
        joined = (torch.cat(parts).to(self.device) for parts in zip(*frames, strict=True))
        return self._as_read(Semantics(*joined))

    def _heard(self, frames: list[Any], for_pose: bool) -> Read:
        """What driving frames say, smoothed if that is asked for."""
        read = self._told(frames, for_pose)
        if self.chain.control.smooth and read.semantics is not None:
            read = read.saying(Semantics(*self.chain.smoothed(list(read.semantics), for_pose)))
        if self.heard is not None and read.semantics is not None and not for_pose:
            self.heard.append(Semantics(*(z.float().cpu() for z in read.semantics)))
        return read

    @abstractmethod
    def _distances(self, read: Read) -> Tensor:
        """How different from the source each of B frames is, ``[B]``."""

    @abstractmethod
    def _results(
        self, person: Person, driver: Read, first: Read, pose: Read | None, first_pose: Read | None
    ) -> Iterator[np.ndarray]:
        """A result, uint8 ``[H, W, 3]``, for each of the driver's frames.

        ``pose`` replaces the driver's; ``first`` and ``first_pose`` are what relative motion starts from, the latter
        None where the pose is a picture's.
        """

    @abstractmethod
    def code_of_state(self, state: States) -> Tensor:
        """The code ``[1, E]`` of the action units and the gaze of one state; its pose counts for nothing."""

    @abstractmethod
    def code_of_picture(self, picture: np.ndarray) -> Tensor:
        """The code ``[1, E]`` of the expression that a driving picture shows."""

    @abstractmethod
    def _saying(self, code: Tensor, shares: Tensor) -> Read:
        """What would be read off a driver that goes ``shares [B]`` of the way from the source's face to the code's."""

    @torch.inference_mode()
    def show(self, code: Tensor, shares: Iterable[float]) -> Iterator[np.ndarray]:
        """Yield the source, uint8 ``[H, W, 3]``, once for each of ``shares``, with its own pose.

        Args:
            code: [1, E] of the expression, from :meth:`code_of_state` or :meth:`code_of_picture`, or a sum of such.
            shares: 0 leaves the source's own expression, 1 shows the code's in its place, at the options' strength.
        """
        for batch in _batches(shares, self.batch_size):
            said = self._saying(code, torch.tensor(batch, device=self.device))
            yield from self._results(self.person, said, said.row(0), None, None)

    @torch.inference_mode()
    def start_from_best(self, frames: Iterable[np.ndarray]) -> int:
        """Find the driving frame most like the source, in pose and expression.

        The next :meth:`animate`'s relative motion starts from it.  Return its index.
        """
        best, index, count = float("inf"), 0, 0
        for batch in _batches(frames, self.batch_size):
            read = self._told(batch, for_pose=False)
            for i, distance in enumerate(self._distances(read).tolist()):
                if distance < best:
                    best, index, self._best = distance, count + i, read.row(i)
            count += len(batch)
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

        In place of frames there may be what was once read off them: semantics of one frame each.

        ``pose_frames``, as many as ``frames``, give the head pose in place of the driver's; where ``pose_moves``, they
        are a video's, and relative motion starts from the first of them.  ``sources``, a frame each, are the person as
        they are then, in place of the one picture: a video of them.  A batch of them is read first, then its drivers.

        Raises:
            UserError: what the model makes is not finite.
        """
        first, self._best = self._best, None
        first_pose = None
        frames, poses = iter(frames), None if pose_frames is None else iter(pose_frames)
        batches = _batches(frames, self.batch_size)
        groups = itertools.repeat(None) if sources is None else _batches(sources, self.batch_size)
        for group in groups:
            batch = next(batches, None) if group is None else list(itertools.islice(frames, len(group)))
            if not batch:
                return
            person = self.person if group is None else self._meet(group[: len(batch)])
            driver = self._heard(batch, for_pose=False)
            first = first or driver.row(0)
            pose = None
            if poses is not None:
                pose = self._heard(list(itertools.islice(poses, len(batch))), for_pose=True)
                if pose_moves:
                    first_pose = first_pose or pose.row(0)
            yield from self._results(person, driver, first, pose, first_pose)


def pairs(animator: Animates, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every driving frame with its result; as streamed as ``animate``."""
    waiting: deque[np.ndarray] = deque()  # driving frames whose results are still being computed

    def remembered() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame

    for picture in animator.animate(remembered()):
        yield waiting.popleft(), picture


def _batches(frames: Iterable, size: int) -> Iterator[list]:
    """Frames together, but for the first: nobody waits for others to see that one."""
    frames = iter(frames)
    yield from ([first] for first in itertools.islice(frames, 1))
    while batch := list(itertools.islice(frames, size)):
        yield batch
