"""Some frames of a video, by their numbers: the file is opened once, and no more is decoded than they need."""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from ..errors import UserError
from .file import STRICT, Shown, decode, decoder_of, opened, packets_from
from .pillow import is_animation, read_animation
from .screen import picture, screen_of
from .video import VideoInfo, decoded, probe_video

WHOLE = frozenset({"h264"})  # codecs whose frames that no other refers to can be left out, and all others stay the same


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
    images = dict(_sought(path, info, wanted))
    missing = [index for index in wanted if index not in images]
    if missing:
        images.update(_streamed(path, info, missing))
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
    waiting = soon_decoded(info)
    if not info.pts:
        yield from (image for _, image in _streamed(path, info, waiting))
        return
    with contextlib.closing(_sought(path, info, waiting[:])) as found:
        for index, image in found:
            if index != waiting[0]:
                break
            waiting.pop(0)
            yield image
    for index in waiting:
        yield read_frames(path, [index], info)[0]


def _sought(path: str | Path, info: VideoInfo, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of sorted numbers, each decoded from the key frame before it; those that turn up, by number.

    None do where the file cannot be sought.  Where seeking fails the rest is missing: it has to be read from the start,
    where damage is found and told.
    """
    if not info.pts:
        return
    with contextlib.suppress(UserError, av.FFmpegError), opened(path, is_known=True) as (container, stream):
        decoder = decoder_of(path, stream)
        decoder.options, decoder.thread_count = STRICT, 1  # threads would be started for a few frames
        screen = None
        for key, group in itertools.groupby(wanted, lambda index: bisect.bisect_right(info.keyframes, index) - 1):
            demuxed = packets_from(container, stream, info.pts[info.keyframes[max(key, 0)]])
            index_of = {info.pts[index]: index for index in group}
            for frame in _decoded(decoder, demuxed, set(index_of)):
                if frame.pts in index_of:
                    screen = screen or screen_of(stream, frame, threads=1)
                    index = index_of[frame.pts]
                    yield index, picture(path, info.times[index], frame, screen)


def _decoded(decoder: av.VideoCodecContext, demuxed: Shown, wanted: set[int]) -> Iterator[av.VideoFrame]:
    """Decode till all frames that are ``wanted``, by their pts, have come; others may come as well."""
    unsent, missing, sent, is_at_start = set(wanted), set(wanted), None, True
    decoder.flush_buffers()
    for packet in demuxed:
        if not unsent and packet.pts not in (None, sent):
            packet = av.Packet()  # what is held back to put frames in order comes now, without decoding more
        if decoder.name in WHOLE:
            decoder.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
        sent = packet.pts
        unsent.discard(sent)
        for frame in decode(decoder, packet, is_strict=not (is_at_start and demuxed.left_out)):
            if frame.is_corrupt:
                return
            is_at_start = False
            missing.discard(frame.pts)
            yield frame
        if not (missing and packet.size):
            return


def _streamed(path: str | Path, info: VideoInfo, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of sorted numbers, read from the start on; those that turn up, by number."""
    if is_animation(path):
        yield from ((number, image) for number, (image, *_) in enumerate(read_animation(path)) if number in wanted)
        return
    index_of = {info.pts[index] if info.pts else index: index for index in wanted}
    left = set(wanted)
    with contextlib.closing(decoded(path)) as frames:
        for count, (_, frame, screen) in enumerate(frames):
            place = frame.pts if info.pts else count
            if place in index_of:
                index = index_of[place]
                left.discard(index)
                yield index, picture(path, info.times[index], frame, screen)
            if not left or place is None or place > max(index_of):
                break
