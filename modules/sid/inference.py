"""Inference: a source picture and a driving video or picture as files, the result as a file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from modules import faces, media
from modules.config import ModelParams
from modules.errors import UserError
from modules.sid.animator import Animator
from modules.sid.model import SID
from modules.sid.motion import MotionOptions
from modules.sid.weights import load_model

Fit = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Framing:
    """How files become frames of the model's size, and how results are shown."""

    size: tuple[int, int]           # height and width of the model's frames
    crop: bool = False              # find the face and cut it out, instead of the picture's centre
    detector: str = "auto"          # of --crop: auto, face-alignment, lbp
    side_by_side: bool = False      # source | driver | result
    cpu: bool = False               # keep the face detector off the GPU

    def image(self, path: str | Path) -> np.ndarray:
        """The picture at ``path``, cropped and resized: uint8 ``[H, W, 3]``."""
        image = media.read_image(path)
        if self.crop:
            image = faces.crop_image(image, faces.load_detector(self.detector, self.cpu), str(path))
        return media.fit(image, *self.size)

    def video(self, path: str | Path) -> Fit:
        """The function that crops and resizes every frame of the video at ``path``."""
        if not self.crop:
            return lambda image: media.fit(image, *self.size)
        box = faces.video_box(path, faces.load_detector(self.detector, self.cpu))
        return lambda image: media.fit(faces.cut(image, box), *self.size)


def best_device(cpu: bool = False) -> torch.device:
    """A GPU if there is one and it is wanted."""
    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def prepare_model(params: ModelParams, checkpoint: str | Path, device: torch.device) -> SID:
    """The model of a checkpoint on ``device``, ready to animate."""
    return load_model(params, checkpoint).to(device)


def animate_image(model: SID, source: str, driver: str, result: str, framing: Framing, options: MotionOptions) -> None:
    """Write the source with the face of one driving picture."""
    source_image, driving_image = framing.image(source), framing.image(driver)
    animator = Animator(model, source_image, options)
    (picture,) = animator.animate([driving_image])
    shown = [source_image, driving_image, picture] if framing.side_by_side else [picture]
    media.write_image(result, np.concatenate(shown, axis=1))


def animate_video(
    model: SID,
    source: str,
    driver: str,
    result: str,
    framing: Framing,
    options: MotionOptions,
    pose_video: str | None = None,
    find_best_frame: bool = False,
) -> int:
    """Write the source moved by a driving video, with the driver's timing and sound; return the number of frames.

    Frames are read, rendered and written as they come: memory does not grow with the video's length.
    """
    source_image = framing.image(source)
    info, fit = media.probe_video(driver), framing.video(driver)
    animator = Animator(model, source_image, options)
    if find_best_frame:
        index = animator.start_from_best(_fitted(driver, fit, len(info.times), "searching"))
        print(f"relative to the driver's frame {index}, which is posed most like the source", file=sys.stderr)
    pose_frames = None
    if pose_video is not None:
        pose_frames = _pose_frames(pose_video, framing)
    height, width = framing.size
    columns = 3 if framing.side_by_side else 1
    count = 0
    with contextlib.ExitStack() as stack:
        shape = (columns * width, height)
        writer = stack.enter_context(
            media.VideoWriter(result, *shape, info.frame_rate, audio_from=driver, duration=info.duration)
        )
        waiting: list[tuple[np.ndarray, float]] = []  # driving frames whose results are still being computed

        def driving() -> Iterator[np.ndarray]:
            for frame in tqdm(media.read_video(driver), total=len(info.times), unit="frame", desc=Path(result).name):
                image = fit(frame.image)
                waiting.append((image, frame.time))
                yield image

        for picture in animator.animate(driving(), pose_frames):
            image, time = waiting.pop(0)
            shown = [source_image, image, picture] if framing.side_by_side else [picture]
            writer.write(np.concatenate(shown, axis=1), time)
            count += 1
    return count


def _fitted(path: str, fit: Fit, total: int, what: str) -> Iterator[np.ndarray]:
    for frame in tqdm(media.read_video(path), total=total, unit="frame", desc=what):
        yield fit(frame.image)


def _pose_frames(path: str, framing: Framing) -> Iterator[np.ndarray]:
    if media.is_image(path):
        return iter([framing.image(path)])
    fit = framing.video(path)
    return (fit(frame.image) for frame in media.read_video(path))


def check_inputs(*paths: str | None) -> None:
    """Raise UserError for the first named file that is not there: before a model is built or a file begun."""
    for path in paths:
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no such file")
