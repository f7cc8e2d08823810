"""Inference: a source picture and a driving video or picture as files, the result as a file."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import media
from ..arguments import listed
from ..config.rigged import RiggedConfig
from ..config.sid import Config, ModelParams
from ..devices import best_device
from ..progress import Bar, note
from ..world.control.options import check_sliders
from ..world.control.sliders import SLIDERS
from .animator import Animator
from .directions import table_of
from .drivers import CLOCK_SLACK, Drivers, Each, Paths, at_times
from .driving import Animates, ModelAnimator, Pictures
from .framing import Framing
from .model import SID
from .motion_options import MotionOptions
from .onnx.layout import read_config
from .onnx.session import Provider
from .options import is_motion
from .rigged.animator import KIND, RiggedAnimator
from .rigged.model import RiggedSID, load_rigged
from .template import Template
from .tuned import Precision, half_precision, tuned
from .videos import DrivingVideo, Source
from .weights import load_model

if TYPE_CHECKING:
    from ..world.puppets.animator import PuppetAnimator


def prepare_model(params: ModelParams, checkpoint: str | Path, device: torch.device) -> SID:
    """The model of a checkpoint on ``device``, ready to animate."""
    return load_model(params, checkpoint).to(device)


Animated = Callable[[Source], Animates]  # what makes a source move
Moves = Callable[[MotionOptions], Animated]  # and how that depends on options


def prepare(
    config: Config | RiggedConfig, checkpoint: str | Path, device: torch.device, precision: Precision = "fp32"
) -> Moves:
    """How the model of a checkpoint moves sources; :func:`.tuned.half_precision` says what ``precision`` means."""
    half = half_precision(precision, device)
    if isinstance(config, RiggedConfig):
        return partial(by_rig, tuned(load_rigged(checkpoint).to(device)), half=half, checkpoint=checkpoint)
    model = tuned(prepare_model(config.model_params, checkpoint, device))
    return partial(by_model, model, half=half, checkpoint=checkpoint)


def prepare_onnx(folder: Path, provider: Provider) -> Moves:
    """The same of a model that :mod:`.export` wrote as ONNX files into ``folder``."""
    from .onnx.folder import load_folder  # what writes them takes time to import

    config = read_config(folder)
    model = load_folder(config, folder, provider).to(best_device(provider == "cpu"))
    return partial(by_rig if isinstance(config, RiggedConfig) else by_model, model)


def by_model(
    model: SID, options: MotionOptions, half: torch.dtype | None = None, checkpoint: str | Path | None = None
) -> Animated:
    """By SID's networks; beside their ``checkpoint`` is the table of sliders."""
    edits = options.control.edits
    change = table_of(checkpoint).change(edits) if edits else None
    return lambda source: Animator(model, source.image, options, large=source.large, half=half, change=change)


def by_rig(
    model: RiggedSID, options: MotionOptions, half: torch.dtype | None = None, checkpoint: str | Path | None = None
) -> Animated:
    """By points of the face, at the source's own resolution.

    Sliders are the model's own numbers, but for those that the table beside its ``checkpoint`` adds.
    """
    edits = options.control.edits
    change = KIND.edited({name: amount for name, amount in edits.items() if name in SLIDERS})
    if found := {name: amount for name, amount in edits.items() if name not in SLIDERS}:
        table = table_of(checkpoint)
        check_sliders(found, [*SLIDERS, *table.sliders])
        change = change + table.change(found)
    return lambda source: RiggedAnimator(model, source.image, options, large=source.large, half=half, change=change)


def by_mesh(options: MotionOptions, cpu: bool = False) -> Callable[[Source], PuppetAnimator]:
    """By the head that is fitted to the source, at its own resolution."""
    from ..world.puppets.animator import PuppetAnimator  # half a second, which nobody else should wait for

    driven = options.drive, options.strength, options.relative

    def animated(source: Source) -> PuppetAnimator:
        photo, rests = (source.image, False) if source.large is None else (source.large, True)
        return PuppetAnimator(photo, *driven, cpu, rests, options.control)

    return animated


def animate_image(
    animated: Animated,
    source: str,
    driver: Paths,
    result: str,
    framing: Framing,
    pose: str | None = None,
) -> None:
    """Write the source with the face of one driving picture, and the pose of another picture or video's first frame.

    Here and below, several faces of a source are moved where ``framing`` and ``animated`` are of :mod:`.group`;
    ``driver`` may then be several, one for each.
    """
    person, driving_image = framing.source(source), _picture(framing, driver)
    pose_frames = None if pose is None else at_times(framing.driver(pose), iter([0.0]))
    (picture,) = animated(person).animate([driving_image], pose_frames)
    media.write_image(result, framing.shown(person, driving_image, framing.finisher(person)(picture)), framing.xmp)


def animate_video(
    animated: Animated,
    source: str,
    driver: Paths,
    result: str,
    framing: Framing,
    pose: str | None = None,
    find_best_frame: bool = False,
    template: Template | None = None,
) -> int:
    """Write the source moved by a driving video, with the driver's timing and sound; return the number of frames.

    Frames are read, rendered and written as they come: memory does not grow with the video's length.  ``pose`` is a
    second driver, video or picture, for the head pose; it runs by the clock, whatever the two frame rates.

    Args:
        template: of the checkpoint that moves the source: which templates may drive it, and where to keep the motion.
    """
    template = template or Template()
    person = framing.source(source)
    video = template.video(framing, driver)
    finish, info = framing.finisher(person), video.info
    animator = animated(person)
    animator.chain.start(float(info.frame_rate))
    said = template.listen(animator)
    animator.prepare(video.some())
    if find_best_frame:
        searching = Bar(len(info.times), "searching")
        index = animator.start_from_best(frame.image for frame in video.frames(searching.over))
        tell_best(index)
    times: deque[float] = deque()  # of driving frames, for those of the pose
    posing = None if pose is None else framing.driver(pose)
    pose_frames = None if posing is None else at_times(posing, _taken(times))
    if isinstance(posing, DrivingVideo):
        animator.prepare(posing.some(), for_pose=True)
    example = person.image if person.large is None else person.picture
    height, width = framing.shown(person, framing.blank(driver), example).shape[:2]
    shown_at: list[float] = []
    waiting: list[media.Frame] = []  # driving frames whose results are still being computed

    # before a file is begun: a bar that a signal meets half made complains of it
    bar = Bar(len(info.times), Path(result).name)

    def read(frames: Iterator[media.Frame]) -> Iterator[media.Frame]:
        for frame in frames:
            yield frame
            bar.update()

    def driving() -> Iterator[np.ndarray]:
        for frame in video.frames(read):
            waiting.append(frame)
            times.append(frame.time)
            yield frame.image

    is_cut = framing.faceless == "skip" and framing.is_close
    # what is cut would be heard, and the last frame shown for as long
    sound, duration = (None, None) if is_cut else (_heard(driver), info.duration)
    until = duration if isinstance(video, Drivers) else None  # the shortest driver need not be the one that is heard
    rate = info.frame_rate
    with bar, media.VideoWriter(result, width, height, rate, sound, duration, None, until, xmp=framing.xmp) as writer:
        for picture in animator.animate(driving(), pose_frames, pose_moves=isinstance(posing, DrivingVideo)):
            frame = waiting.pop(0)
            shown_at.append(frame.time)
            writer.write(framing.shown(person, frame.image, finish(picture)), frame.time)
    template.keep(animator, said, shown_at, info)
    if video.faceless:
        done = "left out, with the sound" if framing.faceless == "skip" else "show the face before"
        note(f"{', '.join(map(str, listed(driver)))}: {video.faceless} frames without a face {done}")
    return writer.count


def animate_source_video(
    animated: Callable[[Source], ModelAnimator],
    source: str,
    driver: Paths,
    result: str,
    framing: Framing,
    pose: str | None = None,
    find_best_frame: bool = False,
    template: Template | None = None,
) -> int:
    """Write a video of a person with the face of a driver, picture or video; return the number of frames.

    Timing and sound are the source's.  Drivers run by the clock; the result ends with the shorter of the source and
    the driving video.  Memory does not grow with the length of either.
    """
    video, holding = framing.source_video(source), replace(framing, faceless="keep")  # of drivers no time is left out
    is_still = not isinstance(driver, tuple) and media.is_image(driver)
    driving = holding.image(driver) if is_still else (template or Template()).video(holding, driver)
    posing = None if pose is None else holding.driver(pose)
    end = math.inf if is_still else driving.info.duration
    person = video.first()
    animator = animated(person)
    animator.chain.start(float(video.info.frame_rate))
    if not is_still:
        animator.prepare(driving.some())
    if isinstance(posing, DrivingVideo):
        animator.prepare(posing.some(), for_pose=True)
    if find_best_frame and not is_still:
        tell_best(animator.start_from_best(frame.image for frame in driving.frames()))
    waiting: deque[tuple[Source, float]] = deque()  # whose results are still being computed
    drives: deque[np.ndarray] = deque()  # what they are driven by
    times, pose_times = deque[float](), deque[float]()
    bar = Bar(sum(time < end - CLOCK_SLACK for time in video.info.times), Path(result).name)

    def pictures() -> Iterator[Pictures]:
        for shown, time in video.sources():
            if time >= end - CLOCK_SLACK:
                return
            waiting.append((shown, time))
            times.append(time)
            pose_times.append(time)
            bar.update()
            yield shown.pictures

    def drivers() -> Iterator[np.ndarray]:
        for image in at_times(driving, _taken(times)):
            drives.append(image)
            yield image

    pose_frames = None if posing is None else at_times(posing, _taken(pose_times))
    example = person.image if person.large is None else person.picture
    height, width = framing.shown(person, framing.blank(driver), example).shape[:2]
    duration = min(end, video.info.duration)
    is_cut = framing.faceless == "skip"  # what is cut would be heard
    sound, length = (None, None) if is_cut else (source, duration)
    writer = media.VideoWriter(
        result,
        width,
        height,
        video.info.frame_rate,
        sound,
        length,
        sound_until=length if end < math.inf else None,
        xmp=framing.xmp,
    )
    with bar, writer:
        moves = isinstance(posing, DrivingVideo)
        for picture in animator.animate(drivers(), pose_frames, moves, pictures()):
            shown, time = waiting.popleft()
            writer.write(framing.shown(shown, drives.popleft(), framing.finisher(shown)(picture)), time)
    if video.without:
        done = "left out, with the sound" if is_cut else "left as they are"
        note(f"{source}: {video.without} frames without a face {done}")
    return writer.count


def tell_best(index: int) -> None:
    note(f"relative to the driver's frame {index}, which is most like the source")


def _taken(times: deque[float]) -> Iterator[float]:
    """What is in a queue; it ends where that is empty.  An animator that looks ahead asks once more at the end."""
    while times:
        yield times.popleft()


def _heard(driver: Paths) -> str | None:
    """The first of the drivers that is a video: the result has its sound."""
    return next((path for path in listed(driver) if not (is_motion(path) or media.is_image(path))), None)


def _picture(framing: Framing, driver: Paths) -> Any:
    """The driving picture at a path, or those of several faces."""
    return Each(framing.image(path) for path in driver) if isinstance(driver, tuple) else framing.image(driver)
