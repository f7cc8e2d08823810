"""Reading videos: streaming, and a look at the index.  Imported through :mod:`.media`.

Frames come as a player shows them: turned by the display matrix (phone videos), with square pixels, transparency over
white.  Times are presentation times in seconds from the first frame.  Damage is an error, never a shorter video.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ..errors import UserError, cause
from .file import STRICT, clock_of, decode, decoder_of, opened, packets, readable
from .pillow import is_animation, read_animation
from .screen import Screen, picture, screen_of


class Frame(NamedTuple):
    """One frame of a video."""

    image: np.ndarray  # uint8 [H, W, 3], RGB
    time: float  # seconds from the first frame


@dataclass(frozen=True)
class VideoInfo:
    """What a video's index says about it."""

    width: int  # pixels, as displayed: after rotation, with square pixels
    height: int
    frame_rate: Fraction  # average frames per second
    times: tuple[float, ...]  # seconds from the first frame, one per frame, sorted; the first is 0
    keyframes: tuple[int, ...]  # indices of the frames where decoding can start
    has_audio: bool  # which can be decoded
    duration: float  # seconds, from the first frame's start to the last frame's end
    is_anamorphic: bool  # the file's pixels are not square
    pts: tuple[int, ...] = field(
        repr=False
    )  # the same times as the file has them; empty if it has none that can be sought


def probe_video(path: str | Path) -> VideoInfo:
    """Read a video's index.  Only the first frame is decoded, for its rotation and its size.

    Raises:
        UserError: the file is missing, is no video, has no frame, or is cut off.
    """
    if is_animation(path):
        return _probe_animation(path)
    with opened(path) as (container, stream):
        demuxed = packets(path, container, stream)
        index = [
            (packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
            for packet in demuxed
            if packet.size and not packet.is_discard
        ]
        clock = clock_of(path)
        has_pts = clock == "pts" or all(pts is not None and pts == dts for pts, dts, *_ in index)
        time_base, rate = stream.time_base, stream.average_rate
        has_audio = False
        with contextlib.suppress(UserError):  # sound that cannot be decoded is none
            has_audio = bool(readable(path, container, "audio"))
        is_anamorphic = (stream.sample_aspect_ratio or 1) != 1
    with contextlib.closing(decoded(path)) as frames:
        _, frame, screen = next(frames)
        shape = picture(path, 0.0, frame, screen).shape
    if has_pts:
        index.sort(key=lambda packet: packet[0])
    stamps = [pts if has_pts else dts for pts, dts, *_ in index]
    if clock == "rate":
        times = tuple(float(number / (rate or 25)) for number in range(len(index)))
    else:
        times = tuple(float((stamp - stamps[0]) * time_base) for stamp in stamps)
    mean = Fraction((len(times) - 1) / times[-1]).limit_denominator(1001) if times[-1] > 0 else Fraction(25)
    rate = Fraction(rate) if rate and abs(rate / mean - 1) < 0.02 else mean  # headers may hold a mere clock rate
    last = float(index[-1][2] * time_base) if clock == "pts" else 0.0
    return VideoInfo(
        width=shape[1],
        height=shape[0],
        frame_rate=rate,
        times=times,
        keyframes=tuple(number for number, packet in enumerate(index) if packet[3]) or (0,),
        has_audio=has_audio,
        duration=times[-1] + (last or float(1 / rate)),
        is_anamorphic=is_anamorphic,
        pts=tuple(stamps) if has_pts and demuxed.parts == 1 else (),  # a place in a later part is not found by them
    )


def _probe_animation(path: str | Path) -> VideoInfo:
    shape, times, end = (0, 0), [], 0.0
    for image, time, duration in read_animation(path):
        shape, end = image.shape, time + duration
        times.append(time)
    rate = Fraction(len(times) / end).limit_denominator(1001)
    return VideoInfo(shape[1], shape[0], rate, tuple(times), (0,), False, end, False, ())


def read_video(path: str | Path) -> Iterator[Frame]:
    """Stream the frames of a video; memory does not grow with its length.

    Raises:
        UserError: the file is missing, is no video, has no frame, is damaged or cut off.
    """
    if is_animation(path):
        for image, time, _ in read_animation(path):
            yield Frame(image, time)
        return
    first = None
    for now, frame, screen in decoded(path):
        first = now if first is None else first
        yield Frame(picture(path, now - first, frame, screen), now - first)


def first_time(path: str | Path) -> float:
    """When the first frame is shown, in seconds of the file's own clock (which its sound shares)."""
    if is_animation(path):
        return 0.0
    with contextlib.closing(decoded(path)) as frames:
        return next(frames)[0]


def lead_in(path: str | Path) -> float:
    """Seconds from the file's start, from which the ffmpeg program counts, to the first video frame.

    More than 0 where sound begins before the picture.
    """
    if is_animation(path):
        return 0.0
    with opened(path) as (container, _):
        start = (container.start_time or 0) / av.time_base
    return max(0.0, first_time(path) - start)


def decoded(path: str | Path) -> Iterator[tuple[float, av.VideoFrame, Screen]]:
    """Decode a video: seconds on the file's own clock, frame, how it is shown."""
    with opened(path) as (container, stream):
        decoder = decoder_of(path, stream)
        decoder.options = STRICT
        demuxed = packets(path, container, stream)
        clock = clock_of(path)
        begin, rate = float((stream.start_time or 0) * stream.time_base), stream.average_rate or 25
        stamps, count, now, first, part = collections.deque(), 0, 0.0, 0.0, 0
        is_at_start = True  # of a part: no frame of it has come
        try:
            for packet in demuxed:
                if not decoder.is_open:
                    # Threads decode ahead.  They never recover from a complaint, which there is where frames refer to
                    # what was left out.
                    decoder.thread_type = "SLICE" if demuxed.left_out else "AUTO"
                if demuxed.parts > part:
                    part, is_at_start = demuxed.parts, True
                if clock == "dts" and packet.size:
                    stamps.append(float(packet.dts * packet.time_base))
                for frame in decode(decoder, packet, is_strict=not (is_at_start and demuxed.left_out)):
                    if frame.is_corrupt:
                        told = now - first
                        raise UserError(f"{path}: the video is damaged after {told:.2f} s; get the file again")
                    if clock == "pts" and frame.pts is not None:
                        now = float(frame.pts * stream.time_base)
                    else:
                        now = stamps.popleft() if stamps else begin + float(count / rate)
                    if count == 0:
                        first, screen = now, screen_of(stream, frame)
                    count, is_at_start = count + 1, False
                    yield now, frame, screen
        except UserError:
            raise
        except Exception as error:
            message = f"{path}: the video is damaged after {now - first:.2f} s ({cause(error)}); get the file again"
            raise UserError(message) from None
        if count == 0:
            raise UserError(f"{path}: the video has no frame; choose another file")
