"""Motion templates: what is read off a driver, kept in a file without any picture of it.

A file ``.motion`` is in the safetensors format.  ``expression [T, E]`` and ``pose [T, P]`` are z_exp and z_pose of what
the driver does, without what face and head are like at rest (:meth:`.driving.ModelAnimator.without_rest`), and ``times
[T]`` are seconds.  The metadata say which version wrote it, by which weights, at how many frames a second, and where
each field comes from.  The driver's points, shape and z_id are not in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import media
from ..atomic import replacing, writing_errors
from ..digest import digest
from ..errors import UserError
from ..mark.provenance import VERSION
from .drivers import Drivers, MotionInfo, Paths
from .driving import Animates, ModelAnimator
from .encoders import Semantics
from .framing import Framing
from .options import is_motion
from .videos import DrivingVideo

FORMAT = 1  # counts changes of the layout
KIND = "deepexpr motion"
SOURCES = {
    "expression": "z_exp of the semantic encoder; of the rigged model less what the face shows at rest",
    "pose": "z_pose of the semantic encoder; of the rigged model less its median",
    "times": "seconds of the driver's frames from its first one on",
}


class DrivingMotion:
    """A template that drives in place of a :class:`.videos.DrivingVideo`: its frames' images are semantics.

    Raises:
        UserError: the file is missing, broken, no template, or of another format.
    """

    faceless = 0  # every frame has said something

    def __init__(self, path: str | os.PathLike):
        self.path = path
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
        self.semantics, told = _read(path)
        self.weights: str = told["weights"]
        self.info = told["info"]

    def check(self, checkpoint: str | os.PathLike | None) -> None:
        """UserError where the numbers are other weights' than a checkpoint's: they would mean something else."""
        if checkpoint is None or digest(checkpoint) != self.weights:
            by = "this way of moving" if checkpoint is None else checkpoint
            raise UserError(f"{self.path}: was read by other weights than {by}; save it again with --save_motion")

    def frames(self, progress: Callable[[Iterator], Iterator] = iter) -> Iterator[media.Frame]:
        """Every frame with its time, as :meth:`.videos.DrivingVideo.frames`; its image is semantics ``[1, ...]``."""
        rows = zip(*(z.split(1) for z in self.semantics), strict=True)
        frames = (media.Frame(Semantics(*row), time) for row, time in zip(rows, self.info.times, strict=True))
        yield from progress(frames)

    def some(self) -> Iterator[Any]:
        """Nothing: what the driver's face says at rest is left out already."""
        return iter(())


@dataclass(frozen=True)
class Template:
    """Motion templates in and out.

    Attributes:
        checkpoint: what moves the source, and reads its drivers; None: nothing that templates can be of.
        save_to: where what is read off the driver is kept.
    """

    checkpoint: str | Path | None = None
    save_to: str | None = None

    def video(self, framing: Framing, driver: Paths) -> DrivingVideo | DrivingMotion | Drivers:
        """The driver at a path, a video or a template; or several drivers.

        Raises:
            UserError: a template is another model's, or a driver shows no face.
        """
        if isinstance(driver, tuple):
            return Drivers([self._motion(path) if is_motion(path) else framing.driver(path) for path in driver])
        return self._motion(driver) if is_motion(driver) else framing.video(driver)

    def _motion(self, path: str) -> DrivingMotion:
        motion = DrivingMotion(path)
        motion.check(self.checkpoint)
        return motion

    def listen(self, animator: Animates) -> list[Semantics]:
        """What the animator will have read off its drivers."""
        said: list[Semantics] = []
        if self.save_to is not None and isinstance(animator, ModelAnimator):
            animator.heard = said
        return said

    def keep(
        self, animator: Animates, said: list[Semantics], times: list[float], info: media.VideoInfo | MotionInfo
    ) -> None:
        """Write what the animator has read, batch by batch, if it is to be kept."""
        if self.save_to is not None and self.checkpoint is not None and isinstance(animator, ModelAnimator):
            whole = Semantics(*(torch.cat(parts) for parts in zip(*said, strict=True)))
            save_motion(self.save_to, animator.without_rest(whole), times, info, digest(self.checkpoint))


def save_motion(
    path: str | os.PathLike, said: Semantics, times: list[float], info: media.VideoInfo | MotionInfo, weights: str
) -> None:
    """Write a template, whole or not at all.

    Args:
        said: what drives, T frames.
        times: seconds of the T frames.
        info: of the driver.
        weights: :func:`.digest.digest` of the checkpoint that read it.
    """
    from safetensors.torch import save

    expression, pose = (z.float().contiguous() for z in said)
    tensors = {"expression": expression, "pose": pose, "times": torch.tensor(times, dtype=torch.float64)}
    told = {
        "kind": KIND,
        "format": str(FORMAT),
        "version": VERSION,
        "frame_rate": str(Fraction(info.frame_rate)),
        "duration": repr(float(info.duration)),
        "weights": weights,
        "sources": json.dumps(SOURCES),
    }
    with replacing(path) as temporary, writing_errors(path):
        temporary.write_bytes(save(tensors, told))


def _read(path: str | os.PathLike) -> tuple[Semantics, dict]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            if told.get("kind") != KIND:
                raise UserError(f"{path}: no motion template; --save_motion writes one")
            if told.get("format") != str(FORMAT):
                raise UserError(f"{path}: has another format than this version reads; save it again")
            expression, pose, times = (file.get_tensor(name) for name in ("expression", "pose", "times"))
        info = MotionInfo(tuple(times.tolist()), Fraction(told["frame_rate"]), float(told["duration"]))
        weights = told["weights"]
    except (SafetensorError, OSError, KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: no motion template that can be read; save it again with --save_motion") from error
    _check(path, expression, pose, times, info)
    return Semantics(expression.float(), pose.float()), {"info": info, "weights": weights}


def _check(path: str | os.PathLike, expression: Tensor, pose: Tensor, times: Tensor, info: MotionInfo) -> None:
    is_shaped = expression.ndim == pose.ndim == 2 and len(expression) == len(pose) == len(info.times) > 0
    is_finite = all(bool(values.isfinite().all()) for values in (expression, pose, times))
    rises = bool((times[1:] > times[:-1]).all())
    if not (is_shaped and is_finite and rises and info.frame_rate > 0 and info.duration > 0):
        raise UserError(f"{path}: a motion template whose numbers make no motion; save it again with --save_motion")
