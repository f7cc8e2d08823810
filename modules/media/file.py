"""Video files on their way in: opened, demuxed, found to be whole.  Damage is an error, never a shorter video."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import av

from ..errors import UserError, cause
from .joints import JOINABLE, Breaks, OneClock
from .pillow import is_heif

# Without "explode" a decoder paints over what is damaged and says nothing.
STRICT = {"err_detect": "explode"}
PLAYLISTS = {"concat", "dash", "hls", "imf", "sdp"}  # who sends such a file does not get what it names
NO_PLAYLISTS = ",".join(sorted({name for kinds in av.formats_available for name in kinds.split(",")} - PLAYLISTS))
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # codec -> the decoder that shows transparency


def open_container(path: str | Path, options: dict[str, str] | None = None) -> av.container.InputContainer:
    """``av.open`` for reading, whose errors are one line."""
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; check the name")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder; give the name of a video")
    try:
        options = {"format_whitelist": NO_PLAYLISTS} | (options or {})
        container = av.open(ffmpeg_name(path), metadata_errors="replace", options=options)
    except av.error.ArgumentError:  # what FFmpeg says of a kind that is not on the list
        raise UserError(f"{path}: is a list of other files, which are not looked into; give a video itself") from None
    except Exception as error:  # not FFmpeg's alone: PyAV has Python's own for what it does not know
        raise UserError(f"{path}: is not a video that can be read ({cause(error)}); is the file complete?") from None
    return container


def ffmpeg_name(path: str | Path) -> str:
    """The name for FFmpeg, which would take what comes before a colon for a protocol."""
    return f"file:{path}"


@contextlib.contextmanager
def opened(path: str | Path, is_known: bool = False) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file and choose its picture stream; the errors of opening are one line.

    Of a file ``is_known`` already, FFmpeg decodes nothing to find out more about it, which halves the time.
    """
    if not is_known and is_heif(path):
        raise UserError(f"{path}: is a single HEIC or AVIF picture, not a video; choose another file")
    with open_container(path, {"skip_frame": "all"} if is_known else None) as container:
        streams = readable(path, container, "video")
        if not streams:
            raise UserError(f"{path}: has no video stream; is it a sound file?")
        yield container, streams[0]


def readable(path: str | Path, container: av.container.InputContainer, kind: str) -> list[av.stream.Stream]:
    """The container's streams of a kind, ``video`` or ``audio``, that can be decoded.  Empty where there are none.

    Raises:
        UserError: there are some, and none can be decoded.
    """
    # Music files carry their cover as a video stream of one picture.
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in getattr(container.streams, kind) if not stream.disposition & covers]
    known = [stream for stream in streams if stream.codec_context is not None]
    if "mp4" in container.format.name and (len(known) > 1 or kind == "audio"):
        known = [stream for stream in known if not _is_encrypted(path, stream.index)]
    if streams and not known:
        raise UserError(f"{path}: its {kind} is encrypted or of an unknown codec; convert the file to MP4 (H.264, AAC)")
    return known


def decoder_of(path: str | Path, stream: av.VideoStream) -> av.VideoCodecContext:
    """What decodes a video with all that is in it: FFmpeg's own decoders of VP8 and VP9 leave out transparency."""
    name = _WITH_ALPHA.get(stream.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        return av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        raise UserError(
            f"{path}: is transparent, which needs FFmpeg's {name}, and PyAV has none here; install PyPI's wheel of av"
        ) from None


def decode(
    decoder: av.codec.CodecContext, packet: av.Packet, is_strict: bool = True
) -> list[av.VideoFrame] | list[av.AudioFrame]:
    """The frames that a packet completes; after an empty one the decoder can begin another part.

    Unless ``is_strict``, complaints are of frames that the file lacks at its begin, and lose nothing.
    """
    frames: list[av.VideoFrame] | list[av.AudioFrame] = []
    with contextlib.nullcontext() if is_strict else contextlib.suppress(av.FFmpegError):
        frames = decoder.decode(packet)
    if not packet.size:
        decoder.flush_buffers()
    return frames


def _is_encrypted(path: str | Path, index: int) -> bool:
    """Whether the first packet of a stream says so."""
    with contextlib.suppress(av.FFmpegError), open_container(path) as container:  # damage is told by who reads on
        return any(packet.has_sidedata("encryption_info") for packet in itertools.islice(container.demux(index), 1))
    return False


def clock_of(path: str | Path) -> str:
    """Which times of the video's packets are to be believed.

    ``"pts"``: every packet has its presentation time.  ``"dts"``: not so, but every one has its decoding time; these
    are sorted, and the n-th frame shown has the n-th of them.  ``"rate"``: some have neither; the frames are evenly
    spaced.
    """
    with opened(path) as (container, stream):
        if "mp4" in container.format.name or container.format.name == "gif":
            return "pts"
        if container.format.name == "avi":  # stores no presentation times; what FFmpeg guesses is wrong when reordered
            return "dts"
        stamps = []
        with contextlib.suppress(av.FFmpegError):  # damage is told by who reads the pictures
            demuxed = Shown(OneClock(container.demux(stream), container))
            stamps = [(packet.pts, packet.dts) for packet in demuxed if packet.size]
    if all(pts is not None for pts, _ in stamps):
        return "pts"
    return "dts" if all(dts is not None for _, dts in stamps) else "rate"


def joint_offsets(path: str | Path, container: av.container.InputContainer) -> list[float]:
    """Seconds to add to the clocks of a file's later parts, if it was joined, so that the video goes on."""
    if container.format.name not in JOINABLE or not container.streams.video:
        return []
    with opened(path) as (another, stream):
        clock = OneClock(another.demux(stream), another)
        collections.deque(clock, maxlen=0)
        return clock.offsets


def packets(path: str | Path, container: av.container.InputContainer, stream: av.VideoStream) -> Shown:
    """Demux the video from the start to the end, the empty packets that flush the decoder included."""
    return Shown(_whole(path, container, stream))


def _whole(path: str | Path, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """All packets, or an error where they end early.

    FFmpeg ends quietly where a file is cut off.  So what came is compared with what the file says of itself.
    """
    count, time, longest, end = 0, 0.0, 0.0, 0.0
    first: float | None = None  # when the first frame is shown: times are told from there on
    breaks = Breaks(path)
    try:
        for packet in OneClock(container.demux(stream), container):
            if packet.has_sidedata("encryption_info"):
                raise UserError(f"{path}: its video is encrypted; give a file without copy protection")
            if breaks.show_loss(packet):
                break
            if packet.size:
                count += 1
                stamp = packet.pts if packet.dts is None else packet.dts
                now = float((stamp or 0) * packet.time_base)
                longest, time = max(longest, now - time), now
                end = max(end, float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base))
                if first is None and packet.is_keyframe and packet.pts is not None:
                    first = float(packet.pts * packet.time_base)
            yield packet
    except UserError:
        raise
    except Exception as error:
        told = max(0.0, time - (first or 0.0))
        message = f"{path}: the video is damaged after {told:.2f} s ({cause(error)}); get the file again"
        raise UserError(message) from None
    if breaks.is_lost:
        told = max(0.0, time - (first or 0.0))
        raise UserError(f"{path}: the video is damaged or cut off after {told:.2f} s; get the file again")
    if count == 0:
        raise UserError(f"{path}: the video has no frame; choose another file")
    if _is_cut_off(path, container, stream, count, end, longest):
        told = max(0.0, end - (first or 0.0))
        raise UserError(f"{path}: the file is cut off, the video ends after {told:.2f} s; get the file again")


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


class Shown(Iterable[av.Packet]):
    """The packets that a decoder can show, where a file (or what is read of it) begins within another's frames.

    Left out is what comes before the first key frame, and what is shown before it ("open GOP"): it refers to frames
    that are not there.  Where no packet is said to be a key frame, all are passed on.  An empty packet ends a part of
    a file that was joined; the next part begins as a file does.
    """

    left_out = False  # whether there were others in this part, so far
    parts = 0  # that have ended, so far

    def __init__(self, packets: Iterator[av.Packet]):
        self._packets = packets

    def __iter__(self) -> Iterator[av.Packet]:
        waiting, first = [], None
        for packet in self._packets:
            if not packet.size:
                yield from waiting
                yield packet
                waiting, first, self.left_out = [], None, False
                self.parts += 1
                continue
            if first is None and packet.is_keyframe:
                self.left_out, waiting, first = bool(waiting), [], packet
            if first is None:
                waiting.append(packet)
            elif None in (packet.pts, first.pts) or packet.pts >= first.pts:
                yield packet
            else:
                self.left_out = True


def packets_from(container: av.container.InputContainer, stream: av.VideoStream, start: int) -> Shown:
    """Demux from the key frame at ``start`` (a pts) on."""
    container.seek(start, stream=stream)
    return Shown(container.demux(stream))
