"""Reading videos: streaming, random access, and a look at the index.  Imported through :mod:`.media`.

Frames come as a player shows them: turned by the display matrix (phone videos), with square pixels, transparency over
white.  Times are presentation times in seconds from the first frame.  Damage is an error, never a shorter video.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace

from ..errors import UserError, cause
from .file import clock_of, decode, decoder_of, opened, packets, packets_from, readable
from .pillow import is_animation, read_animation

# swscale's fast paths round down, which darkens every picture by a level; this is exact on average.
# SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP, which PyAV names from version 18 on.
EXACT = 0x20 | 0x40000 | 0x2000 | 0x4000
UNSPECIFIED = 2  # as a frame's colorspace, in ISO/IEC 23091-2's numbers


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
    with contextlib.closing(_decoded(path)) as frames:
        _, frame, screen = next(frames)
        shape = _picture(path, 0.0, frame, screen).shape
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
    for now, frame, screen in _decoded(path):
        first = now if first is None else first
        yield Frame(_picture(path, now - first, frame, screen), now - first)


def read_frames(path: str | Path, indices: Sequence[int], info: VideoInfo | None = None) -> list[np.ndarray]:
    """Read some frames of a video: those which :func:`read_video` gives at ``indices``, in that order.

    Decoding starts at the key frame before each, so that only few frames are decoded.  ``info``, from
    :func:`probe_video`, saves reading the index again.

    Raises:
        UserError: as :func:`read_video`; or a frame of the index cannot be decoded.
        IndexError: there is no frame of that index.
    """
    info = info or probe_video(path)
    if any(not 0 <= index < len(info.times) for index in indices):
        raise IndexError(f"{path}: frames {list(indices)} wanted, there are {len(info.times)}")
    wanted = sorted(set(indices))
    images: dict[int, np.ndarray] = {}
    if is_animation(path):
        images = {number: image for number, (image, *_) in enumerate(read_animation(path)) if number in wanted}
    elif info.pts:
        for start, group in _groups(info, wanted):
            # Where seeking fails, what is missing is read from the start; damage is found and told there.
            with contextlib.suppress(UserError):
                images.update(_read_group(path, info, start, group))
    missing = sorted(set(wanted) - images.keys())
    if missing:
        images.update(_read_group(path, info, None, missing))
    for index in missing:
        if index not in images:
            at = info.times[index]
            raise UserError(f"{path}: frame {index}, at {at:.2f} s, cannot be decoded; is the file complete?")
    return [images[index] for index in indices]


FEW, MANY = 8, 48  # frames that are looked at of a whole video, at least and at most


def throughout(count: int, duration: float) -> list[int]:
    """Some of ``count`` frames, evenly spread: two a second of ``duration``, at least 8 of them and at most 48."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, max(FEW, min(MANY, round(2 * duration))))).round()]


def soon_decoded(info: VideoInfo) -> list[int]:
    """About those of :func:`throughout`: key frames, which are decoded alone, where there are enough of them."""
    wanted = throughout(len(info.times), info.duration)
    apart = len(info.times) / len(wanted)
    near = set()
    for index in wanted:
        at = bisect.bisect_right(info.keyframes, index)
        key = min(info.keyframes[max(0, at - 1) : at + 1], key=lambda key: abs(key - index))
        near.add(key if abs(key - index) < apart else index)
    return sorted(near) if len(near) >= FEW else wanted


def frames_throughout(path: str | Path, info: VideoInfo | None = None) -> Iterator[np.ndarray]:
    """Some frames, evenly spread over a video (:func:`soon_decoded`), streamed.

    No frame is decoded twice: of a video with few key frames that would take far longer than all else.  ``info`` is as
    in :func:`read_frames`.
    """
    info = info or probe_video(path)
    wanted = soon_decoded(info)
    if is_animation(path):
        yield from (image for number, (image, *_) in enumerate(read_animation(path)) if number in wanted)
        return
    for start, group in _groups(info, wanted):
        waiting = list(group)
        with contextlib.suppress(UserError):  # as in read_frames
            for index, image in _read_group(path, info, start, group):
                if index != waiting[0]:
                    break
                waiting.pop(0)
                yield image
        for index in waiting:
            yield read_frames(path, [index], info)[0]


def _groups(info: VideoInfo, wanted: list[int]) -> Iterator[tuple[int | None, list[int]]]:
    """Sorted indices by the key frame (its pts) that they are decoded from; where there is no pts, the start."""
    if not info.pts:
        yield None, wanted
        return
    for key, group in itertools.groupby(wanted, lambda index: bisect.bisect_right(info.keyframes, index) - 1):
        yield info.pts[info.keyframes[max(key, 0)]], list(group)


def _read_group(
    path: str | Path, info: VideoInfo, start: int | None, wanted: list[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode from the key frame at ``start`` (a pts), or all, on; those of the ``wanted`` that turn up, by index."""
    index_of = {info.pts[index] if info.pts else index: index for index in wanted}
    left = set(wanted)
    with contextlib.closing(_decoded(path, start)) as frames:
        for count, (_, frame, screen) in enumerate(frames):
            place = frame.pts if info.pts else count
            if place in index_of:
                index = index_of[place]
                left.discard(index)
                yield index, _picture(path, info.times[index], frame, screen)
            if not left or place is None or place > max(index_of):
                break


def first_time(path: str | Path) -> float:
    """When the first frame is shown, in seconds of the file's own clock (which its sound shares)."""
    if is_animation(path):
        return 0.0
    with contextlib.closing(_decoded(path)) as frames:
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


def _decoded(path: str | Path, start: int | None = None) -> Iterator[tuple[float, av.VideoFrame, _Screen]]:
    """Decode a video, from its begin or from the key frame at ``start`` (a pts).

    Yields (seconds on the file's own clock, frame, how it is shown).
    """
    with opened(path) as (container, stream):
        decoder = decoder_of(path, stream)
        # Without "explode" the decoder paints over what is damaged and says nothing.
        decoder.options = {"err_detect": "explode"}
        demuxed = packets(path, container, stream) if start is None else packets_from(container, stream, start)
        clock = clock_of(path) if start is None else "pts"
        begin, rate = float((stream.start_time or 0) * stream.time_base), stream.average_rate or 25
        stamps, count, now, first, part = collections.deque(), 0, 0.0, 0.0, 0
        is_at_start = True  # of a part: no frame of it has come
        try:
            for packet in demuxed:
                if not decoder.is_open:
                    # Threads decode ahead: right for a stream, wasted on a few frames.  They also never recover from a
                    # complaint, which there is where frames refer to what was left out.
                    decoder.thread_type = "AUTO" if start is None and not demuxed.left_out else "SLICE"
                if demuxed.parts > part:
                    part, is_at_start = demuxed.parts, True
                if clock == "dts" and packet.size:
                    stamps.append(float(packet.dts * packet.time_base))
                for frame in _frames(decoder, packet, is_strict=not (is_at_start and demuxed.left_out)):
                    if frame.is_corrupt:
                        told = now - first
                        raise UserError(f"{path}: the video is damaged after {told:.2f} s; get the file again")
                    if clock == "pts" and frame.pts is not None:
                        now = float(frame.pts * stream.time_base)
                    else:
                        now = stamps.popleft() if stamps else begin + float(count / rate)
                    if count == 0:
                        first, screen = now, _screen(stream, frame)
                    count, is_at_start = count + 1, False
                    yield now, frame, screen
        except UserError:
            raise
        except Exception as error:
            message = f"{path}: the video is damaged after {now - first:.2f} s ({cause(error)}); get the file again"
            raise UserError(message) from None
        if count == 0:
            raise UserError(f"{path}: the video has no frame; choose another file")


def _frames(decoder: av.VideoCodecContext, packet: av.Packet, is_strict: bool) -> list[av.VideoFrame]:
    """Decode; unless ``is_strict``, complaints are of frames that the file lacks at its begin, and lose nothing."""
    with contextlib.nullcontext() if is_strict else contextlib.suppress(av.FFmpegError):
        return decode(decoder, packet)
    return []


def _picture(path: str | Path, seconds: float, frame: av.VideoFrame, screen: _Screen) -> np.ndarray:
    """The frame as displayed; what cannot be converted is one line."""
    try:
        return _as_displayed(frame, screen)
    except Exception as error:
        raise UserError(
            f"{path}: the frame at {seconds:.2f} s cannot be shown ({cause(error)}); convert the file to MP4"
        ) from None


def _as_displayed(frame: av.VideoFrame, screen: _Screen) -> np.ndarray:
    """The frame's picture, ``uint8 [H, W, 3]``, upright."""
    width, height, matrix = screen
    has_alpha = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    layout = "rgba" if has_alpha else "rgb24"
    # Video that does not name its matrix is taken for BT.709 by players where it is larger than standard definition.
    is_untagged_hd = frame.colorspace == UNSPECIFIED and (frame.width >= 1280 or frame.height > 576)
    matrix_of_yuv = Colorspace.ITU709 if is_untagged_hd else None
    image = frame.to_ndarray(
        format=layout, width=width, height=height, interpolation=EXACT, src_colorspace=matrix_of_yuv
    )
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
