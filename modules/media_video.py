"""Reading videos: streaming, random access, and a look at the index.  Imported through :mod:`modules.media`.

Frames come as a player shows them: turned by the display matrix (phone videos), with square pixels, transparency over
white.  Times are presentation times in seconds from the first frame.  Damage is an error, never a shorter video.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from modules.errors import UserError

# swscale's fast paths round down, which darkens every picture by a level; this is exact on average.
# SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP, which PyAV names from version 18 on.
EXACT = 0x20 | 0x40000 | 0x2000 | 0x4000


class _Screen(NamedTuple):
    """How the frames of a video are shown."""

    width: int  # with square pixels, before rotation
    height: int
    matrix: np.ndarray  # int64 [2, 2], rows (a, b), (c, d): x' = a x + c y, y' = b x + d y, in pixels, y down


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
    has_audio: bool
    duration: float  # seconds, from the first frame's start to the last frame's end
    pts: tuple[int, ...] = field(repr=False)  # the same times as the file has them; empty if it has none


def probe_video(path: str | Path) -> VideoInfo:
    """Read a video's index.  Only the first frame is decoded, for its rotation and its size.

    Raises:
        UserError: the file is missing, is no video, has no frame, or is cut off.
    """
    with _opened(path) as (container, stream):
        packets = [
            (packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
            for packet in _packets(path, container, stream)
            if packet.size and not packet.is_discard
        ]
        is_timed = _has_pts(container)
        has_pts = all(pts is not None and (is_timed or pts == dts) for pts, dts, *_ in packets)
        time_base, has_audio, rate = stream.time_base, bool(container.streams.audio), stream.average_rate
    with contextlib.closing(_decoded(path)) as frames:
        shape = _as_displayed(*next(frames)[1:]).shape
    if has_pts:
        packets.sort(key=lambda packet: packet[0])
    stamps = [pts if has_pts else dts for pts, dts, *_ in packets]
    if None in stamps:  # a bare stream without any times: evenly spaced
        stamps = [round(index / (rate or 25) / time_base) for index in range(len(packets))]
    times = tuple(float((stamp - stamps[0]) * time_base) for stamp in stamps)
    mean = Fraction((len(times) - 1) / times[-1]).limit_denominator(1001) if times[-1] > 0 else Fraction(25)
    rate = Fraction(rate) if rate and abs(rate / mean - 1) < 0.02 else mean  # headers may hold a mere clock rate
    last = float(packets[-1][2] * time_base) if is_timed else 0.0
    return VideoInfo(
        width=shape[1],
        height=shape[0],
        frame_rate=rate,
        times=times,
        keyframes=tuple(index for index, packet in enumerate(packets) if packet[3]) or (0,),
        has_audio=has_audio,
        duration=times[-1] + (last or float(1 / rate)),
        pts=tuple(stamps) if has_pts else (),
    )


def read_video(path: str | Path) -> Iterator[Frame]:
    """Stream the frames of a video; memory does not grow with its length.

    Raises:
        UserError: the file is missing, is no video, has no frame, is damaged or cut off.
    """
    first = None
    for seconds, frame, screen in _decoded(path):
        first = seconds if first is None else first
        yield Frame(_as_displayed(frame, screen), seconds - first)


def read_frames(path: str | Path, indices: Sequence[int], info: VideoInfo | None = None) -> list[np.ndarray]:
    """Read some frames of a video: those which :func:`read_video` gives at ``indices``, in that order.

    Decoding starts at the key frame before each, so that only few frames are decoded.  ``info``, from
    :func:`probe_video`, saves reading the index again.

    Raises:
        UserError: as :func:`read_video`.
        IndexError: there is no frame of that index.
    """
    info = info or probe_video(path)
    if any(not 0 <= index < len(info.times) for index in indices):
        raise IndexError(f"{path}: frames {list(indices)} wanted, there are {len(info.times)}")
    images: dict[int, np.ndarray] = {}
    if info.pts:
        wanted = sorted(set(indices))
        for key, group in itertools.groupby(wanted, lambda index: bisect.bisect_right(info.keyframes, index) - 1):
            images.update(_read_group(path, info, info.keyframes[max(key, 0)], list(group)))
    missing = set(indices) - images.keys()
    if missing:  # no usable times, or an index that is off: count from the start
        with contextlib.closing(read_video(path)) as frames:
            for index, frame in enumerate(itertools.islice(frames, max(missing) + 1)):
                if index in missing:
                    images[index] = frame.image
    return [images[index] for index in indices]


def _read_group(path: str | Path, info: VideoInfo, key: int, wanted: list[int]) -> dict[int, np.ndarray]:
    """Decode from the key frame ``key`` on; return those of the ``wanted`` frames that turn up."""
    index_of = {info.pts[index]: index for index in wanted}
    images: dict[int, np.ndarray] = {}
    # Where seeking fails, what is missing is read from the start; damage is found and told there.
    with contextlib.suppress(UserError), contextlib.closing(_decoded(path, start=info.pts[key])) as frames:
        for _, frame, screen in frames:
            if frame.pts in index_of:
                images[index_of[frame.pts]] = _as_displayed(frame, screen)
            if len(images) == len(wanted) or frame.pts is None or frame.pts > info.pts[wanted[-1]]:
                break
    return images


def open_container(path: str | Path) -> av.container.InputContainer:
    """``av.open`` for reading, whose errors are one line."""
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; check the name")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder; give the name of a video")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: is not a video that can be read ({cause(error)}); is the file complete?") from None


def first_time(path: str | Path) -> float:
    """When the first frame is shown, in seconds of the file's own clock (which its sound shares)."""
    with contextlib.closing(_decoded(path)) as frames:
        return next(frames)[0]


def cause(error: Exception) -> str:
    """What an exception of the system or of FFmpeg says, on one line, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file and choose its picture stream; the errors of opening are one line."""
    with open_container(path) as container:
        # Music files carry their cover as a video stream of one picture.
        covers = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & covers]
        if not streams:
            raise UserError(f"{path}: has no video stream; is it a sound file?")
        yield container, streams[0]


def _packets(path: str | Path, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Demux the video from the start to the end, the empty packet that flushes the decoder included.

    FFmpeg ends quietly where a file is cut off.  So what came is compared with what the file says of itself.
    """
    count, time, longest, end = 0, 0.0, 0.0, 0.0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise UserError(f"{path}: the video is damaged or cut off after {time:.2f} s; get the file again")
            if packet.size:
                count += 1
                now = float((packet.dts or packet.pts or 0) * packet.time_base)
                longest, time = max(longest, now - time), now
                end = max(end, float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base))
            yield packet
    except av.FFmpegError as error:
        message = f"{path}: the video is damaged after {time:.2f} s ({cause(error)}); get the file again"
        raise UserError(message) from None
    if count == 0:
        raise UserError(f"{path}: the video has no frame; choose another file")
    if _is_cut_off(path, container, stream, count, end, longest):
        raise UserError(f"{path}: the file is cut off, the video ends after {end:.2f} s; get the file again")


def _is_cut_off(
    path: str | Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    count: int,
    end: float,
    longest: float,
) -> bool:
    """Whether the file promises more than the ``count`` packets up to ``end`` (seconds, as is the ``longest`` step).

    Formats not named here are found out by a last packet that is not complete.
    """
    kind = container.format.name
    if kind == "gif":
        return not _gif_is_closed(path)
    if "mp4" in kind:  # not stream.frames, which counts frames that an edit list leaves out
        return count < len(stream.index_entries)
    # How long the last frame is shown is not always known: hence the half second.
    return _stated_end(container, stream) > end + max(0.5, 2 * longest)


def _stated_end(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """When an AVI, Matroska or WebM file says that its video ends, in seconds; 0 where nothing is said."""
    if container.format.name == "avi":
        return float((stream.duration or 0) * stream.time_base)
    if "matroska" not in container.format.name:
        return 0.0
    with contextlib.suppress(KeyError, ValueError):
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0


def _gif_is_closed(path: str | Path) -> bool:
    """Whether a GIF ends with its trailer, some padding allowed."""
    with open(path, "rb") as file:
        file.seek(-min(os.path.getsize(path), 64), os.SEEK_END)
        return file.read().rstrip(b"\0\r\n ").endswith(b";")


def _decoded(path: str | Path, start: int | None = None) -> Iterator[tuple[float, av.VideoFrame, _Screen]]:
    """Decode a video, from its begin or from the key frame at ``start`` (a pts).

    Yields (seconds on the file's own clock, frame, how it is shown).
    """
    with _opened(path) as (container, stream):
        # Without "explode" the decoder paints over what is damaged and says nothing.
        stream.codec_context.options = {"err_detect": "explode"}
        # Threads decode ahead: right for a stream, wasted on a few frames.
        stream.thread_type = "AUTO" if start is None else "SLICE"
        packets = _packets(path, container, stream) if start is None else _packets_from(container, stream, start)
        has_pts, stamps, count, now = _has_pts(container), collections.deque(), 0, 0.0
        try:
            for packet in packets:
                if packet.dts is not None:
                    stamps.append(float(packet.dts * packet.time_base))
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise UserError(f"{path}: the video is damaged after {now:.2f} s; get the file again")
                    # Decoding times are sorted: without presentation times, the n-th frame shown has the n-th of them.
                    stamp = stamps.popleft() if stamps else float(count / (stream.average_rate or 25))
                    now = frame.time if has_pts and frame.pts is not None else stamp
                    if count == 0:
                        screen = _screen(stream, frame)
                    count += 1
                    yield now, frame, screen
        except av.FFmpegError as error:
            message = f"{path}: the video is damaged after {now:.2f} s ({cause(error)}); get the file again"
            raise UserError(message) from None
        if count == 0:
            raise UserError(f"{path}: the video has no frame; choose another file")


def _has_pts(container: av.container.InputContainer) -> bool:
    """AVI stores no presentation times; those that FFmpeg guesses are wrong where frames are reordered."""
    return container.format.name != "avi"


def _packets_from(container: av.container.InputContainer, stream: av.VideoStream, start: int) -> Iterator[av.Packet]:
    """Demux from the key frame at ``start`` (a pts) on."""
    container.seek(start, stream=stream)
    first = None
    for packet in container.demux(stream):
        first = packet.pts if first is None else first
        # Frames shown before the key frame ("open GOP") refer to frames before it, which the decoder has not seen.
        if first is None or packet.pts is None or packet.pts >= first:
            yield packet


def _as_displayed(frame: av.VideoFrame, screen: _Screen) -> np.ndarray:
    """The frame's picture, ``uint8 [H, W, 3]``, upright."""
    width, height, matrix = screen
    has_alpha = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    layout = "rgba" if has_alpha else "rgb24"
    image = frame.to_ndarray(format=layout, width=width, height=height, interpolation=EXACT)
    if has_alpha:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    turned = abs(matrix[0, 0]) + abs(matrix[1, 1]) < abs(matrix[0, 1]) + abs(matrix[1, 0])
    if turned:
        image = image.transpose(1, 0, 2)
    mirror_x = (matrix[1, 0] if turned else matrix[0, 0]) < 0
    mirror_y = (matrix[0, 1] if turned else matrix[1, 1]) < 0
    return np.ascontiguousarray(image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _screen(stream: av.VideoStream, frame: av.VideoFrame) -> _Screen:
    """Asked of the first frame only: ``side_data`` refers back to its frame, which then waits for the collector."""
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = np.eye(2) if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]
    width = round(frame.width * (stream.sample_aspect_ratio or 1))
    return _Screen(width, frame.height, matrix.astype(np.int64))
