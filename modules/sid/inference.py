"""Inference: a source picture and a driving video or picture as files, the result as a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import faces, media
from ..config.sid import ModelParams
from .animator import Animator
from .model import SID
from .motion import MotionOptions
from .weights import load_model

Fit = Callable[[np.ndarray], np.ndarray]
CLOCK_SLACK = 1e-3  # seconds: times of equal frame rates differ by rounding


@dataclass(frozen=True)
class Framing:
    """How files become frames of the model's size, and how results are shown."""

    size: tuple[int, int]  # height and width of the model's frames
    crop: bool = False  # find the face and cut it out, instead of the picture's centre
    detector: str = "auto"  # of --crop: auto, retinaface, face-alignment
    side_by_side: bool = False  # source | driver | result
    cpu: bool = False  # keep the face detector off the GPU

    def image(self, path: str | Path) -> np.ndarray:
        """The picture at ``path``, cropped and resized: uint8 ``[H, W, 3]``."""
        image = media.read_image(path)
        if self.crop:
            image = faces.crop_image(image, faces.load_detector(self.detector, self.cpu), str(path), self.size)
        return media.fit(image, *self.size)

    def video(self, path: str | Path) -> Fit:
        """The function that crops and resizes every frame of the video at ``path``."""
        if not self.crop:
            return lambda image: media.fit(image, *self.size)
        box = faces.in_shape(faces.video_box(path, faces.load_detector(self.detector, self.cpu)), self.size)
        return lambda image: media.fit(faces.cut(image, box), *self.size)


def prepare_model(params: ModelParams, checkpoint: str | Path, device: torch.device) -> SID:
    """The model of a checkpoint on ``device``, ready to animate."""
    return load_model(params, checkpoint).to(device)


def animate_image(
    model: SID,
    source: str,
    driver: str,
    result: str,
    framing: Framing,
    options: MotionOptions,
    pose: str | None = None,
) -> None:
    """Write the source with the face of one driving picture, and the pose of another picture or video's first frame."""
    source_image, driving_image = framing.image(source), framing.image(driver)
    pose_frames = None if pose is None else poses_at(pose, framing, iter([0.0]))
    (picture,) = Animator(model, source_image, options).animate([driving_image], pose_frames)
    shown = [source_image, driving_image, picture] if framing.side_by_side else [picture]
    media.write_image(result, np.concatenate(shown, axis=1))


def animate_video(
    model: SID,
    source: str,
    driver: str,
    result: str,
    framing: Framing,
    options: MotionOptions,
    pose: str | None = None,
    find_best_frame: bool = False,
) -> int:
    """Write the source moved by a driving video, with the driver's timing and sound; return the number of frames.

    Frames are read, rendered and written as they come: memory does not grow with the video's length.  ``pose`` is a
    second driver, video or picture, for the head pose; it runs by the clock, whatever the two frame rates.
    """
    source_image = framing.image(source)
    info, fit = media.probe_video(driver), framing.video(driver)
    animator = Animator(model, source_image, options)
    if find_best_frame:
        index = animator.start_from_best(_fitted(driver, fit, len(info.times), "searching"))
        print(f"relative to the driver's frame {index}, which is posed most like the source", file=sys.stderr)
    pose_frames = None if pose is None else poses_at(pose, framing, iter(info.times))
    pose_moves = pose is not None and not media.is_image(pose)
    height, width = framing.size
    shape = ((3 if framing.side_by_side else 1) * width, height)
    waiting: list[tuple[np.ndarray, float]] = []  # driving frames whose results are still being computed

    # before a file is begun: a bar that a signal meets half made complains of it
    frames = tqdm(media.read_video(driver), total=len(info.times), unit="frame", desc=Path(result).name)

    def driving() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append((fit(frame.image), frame.time))
            yield waiting[-1][0]

    with media.VideoWriter(result, *shape, info.frame_rate, audio_from=driver, duration=info.duration) as writer:
        for picture in animator.animate(driving(), pose_frames, pose_moves):
            image, time = waiting.pop(0)
            shown = [source_image, image, picture] if framing.side_by_side else [picture]
            writer.write(np.concatenate(shown, axis=1), time)
    return writer.count


def poses_at(path: str, framing: Framing, times: Iterator[float]) -> Iterator[np.ndarray]:
    """What the pose driver shows at each of the increasing ``times`` (seconds); after its end, its last frame."""
    if media.is_image(path):
        image = framing.image(path)
        return (image for _ in times)
    return _frames_at(path, framing.video(path), times)


def _frames_at(path: str, fit: Fit, times: Iterator[float]) -> Iterator[np.ndarray]:
    frames = media.read_video(path)
    shown = following = next(frames)
    for time in times:
        while following is not None and following.time <= time + CLOCK_SLACK:
            shown, following = following, next(frames, None)
        yield fit(shown.image)


def _fitted(path: str, fit: Fit, total: int, what: str) -> Iterator[np.ndarray]:
    for frame in tqdm(media.read_video(path), total=total, unit="frame", desc=what):
        yield fit(frame.image)
