"""Writing videos, with the sound of another file.  Imported through :mod:`.media`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..atomic import replacing
from ..errors import UserError
from .file import cause, decode, ffmpeg_name, joint_offsets, open_container, readable
from .joints import OneClock
from .screen import EXACT
from .video import first_time
from .xmp import TAGGED, append_xmp


@dataclass(frozen=True)
class _Format:
    """How a container is filled."""

    codec: str
    options: dict[str, str]
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 90000)  # fine enough for any rate
    audio_codec: str | None = "aac"  # what sound is encoded to where it cannot be copied; None: no sound
    copied_audio: frozenset[str] = frozenset()  # the sound codecs that players accept in this container
    shortest: int = 1  # how long a frame is shown at least, in units of time_base
    soon_read: Mapping[str, str] = field(default_factory=dict)  # options, where single frames are to be read


# MP4 stores how long a frame lasts in decoding order: only without B-frames is that right for the last frame too.
_H264 = {"crf": "17", "preset": "medium", "bf": "0"}
LARGE = 4_000_000  # pixels of a frame from which on the encoder looks ahead less, by 10 frames: it holds them all
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_FAST_DECODE = {"tune": "fastdecode"}  # key frames in half the time, files 7 % larger
_MP4 = _Format("libx264", _H264, copied_audio=_MP4_AUDIO, soon_read=_FAST_DECODE)
_FORMATS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MP4,
    ".mkv": _Format("libx264", _H264, copied_audio=_MP4_AUDIO | {"opus", "vorbis", "flac"}, soon_read=_FAST_DECODE),
    ".webm": _Format(
        "libvpx-vp9",
        {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        audio_codec="libopus",
        copied_audio=frozenset({"opus", "vorbis"}),
    ),
    # Browsers show a frame that is to last 10 ms for 100.
    ".gif": _Format("gif", {}, pix_fmt="pal8", time_base=Fraction(1, 100), audio_codec=None, shortest=2),
}
# What all encoders take, by the number of channels; anything else becomes stereo.  Not the source's own name for it:
# uncompressed sound is often just "2 channels", and AC-3 has "5.1(side)", which not all take.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
WRITABLE_VIDEOS = frozenset(_FORMATS)


def check_video_name(path: str | Path) -> None:
    """UserError where the name is not one of a video that can be written."""
    suffix = Path(path).suffix
    if suffix.lower() not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        raise UserError(f"{path}: cannot write a video of type {suffix!r}; use one of {known}")


@contextlib.contextmanager
def writing_errors(path: str | Path) -> Iterator[None]:
    """Turn what the system and FFmpeg raise while ``path`` is written into one line."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"{path}: cannot be written ({cause(error)}); free space or choose another place") from None


class VideoWriter(contextlib.AbstractContextManager):
    """Write a video frame by frame; used as a context manager.

    The file appears under its name when the block ends well; after an exception nothing is left.  Times that are
    written are read back within 1 ms, in a ``.gif`` within its 10 ms steps.  Odd sizes gain one row or column, the edge
    repeated, because the codecs need even ones (not in a ``.gif``).

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.webm`` or ``.gif``.
        width: pixels.
        height: pixels.
        frame_rate: nominal frames per second; what counts are the times given to :meth:`write`.
        audio_from: the file whose sound the video gets, in step with its first video frame.
        duration: seconds from time 0 to the end of the last frame; by default that is shown for one frame's time.
        sound_until: seconds at which the sound ends, by default when it does in its file.
        crf: constant rate factor of the codec, lower is better (not in a ``.gif``); by default the loss is hardly seen.
        key_every: frames from one key frame to the next, at most: the fewer, the sooner any of them is read alone, and
            the larger the file; by default the codec's own (not in a ``.gif``).
        xmp: a packet of metadata.

    Raises:
        UserError: the suffix is unknown, the place cannot be written, or the sound cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        frame_rate: Fraction | float,
        audio_from: str | Path | None = None,
        duration: float | None = None,
        crf: int | None = None,
        sound_until: float | None = None,
        key_every: int | None = None,
        xmp: str | None = None,
    ):
        self.path, self.width, self.height = Path(path), width, height
        self.frame_rate = Fraction(frame_rate).limit_denominator(1001)
        self.duration, self.sound_until = duration, sound_until
        check_video_name(path)
        self._format = _FORMATS[self.path.suffix.lower()]
        self._options = self._format.options | ({} if crf is None else {"crf": str(crf)})
        if key_every is not None:
            self._options |= {"g": str(key_every)} | self._format.soon_read
        if self._format.codec == "libx264" and width * height > LARGE:
            self._options["rc-lookahead"] = "10"
        self._pending: tuple[np.ndarray, int] | None = None  # waits until its duration is known
        self._latest = 0  # the time of the last frame given, in units of the format's time_base
        self.count = 0
        self._durations: dict[int, int] = {}  # by pts, of the frames inside the encoder
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:  # undone if anything here fails
            temporary = stack.enter_context(replacing(self.path))
            self._temporary, self._xmp = temporary, xmp
            with writing_errors(path):
                self._open(stack, temporary, audio_from)
            stack.push(self._finish)
            self._stack = stack.pop_all()

    def _open(self, stack: contextlib.ExitStack, temporary: Path, audio_from: str | Path | None) -> None:
        fast_start = {"movflags": "+faststart"} if self._format is _MP4 else {}
        self._container = av.open(ffmpeg_name(temporary), "w", options=fast_start)
        stack.callback(self._abandon)
        if self._xmp is not None and self.path.suffix.lower() in TAGGED:
            self._container.metadata["XMP"] = self._xmp
        self._is_gif = self._format.codec == "gif"
        stream = self._container.add_stream(self._format.codec, rate=self.frame_rate, options=self._options)
        stream.width = self.width if self._is_gif else self.width + self.width % 2
        stream.height = self.height if self._is_gif else self.height + self.height % 2
        stream.pix_fmt = self._format.pix_fmt
        stream.time_base = stream.codec_context.time_base = self._format.time_base
        if not self._is_gif:  # say which matrix made YUV of RGB, or players guess it from the size
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
        self._stream = stream
        self._palette = _palette_graph(self.width, self.height) if self._is_gif else None
        self._audio = None
        if audio_from is not None and self._format.audio_codec:
            self._audio = stack.enter_context(_Audio(audio_from, self._container, self._format))

    def write(self, image: np.ndarray, time: float) -> None:
        """Add ``image``, ``uint8 [height, width, 3]``, shown from ``time`` on: seconds, not before the last.

        Of frames within the shortest time that one is shown (20 ms in a ``.gif``, 11 microseconds elsewhere) the last
        is kept.  ``count`` is the number of those written.
        """
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            expected = f"uint8 {(self.height, self.width, 3)}"
            raise ValueError(f"{self.path}: {expected} expected, {image.dtype} {image.shape} given")
        pts = self._ticks(time)
        if self._pending is not None:
            if pts < self._latest:
                raise UserError(f"{self.path}: the input's frame times go backwards at {time:.4f} s; convert it to MP4")
            if pts < self._pending[1] + self._format.shortest:  # the later frame stands for both
                self._pending = (image.copy(), self._pending[1])
                self._latest = pts
                return
            self._encode_pending(pts - self._pending[1])
        self._pending, self._latest = (image.copy(), pts), pts

    def _ticks(self, time: float) -> int:
        shift = self._audio.video_start if self._audio else 0.0
        return round((time + shift) / self._format.time_base)

    def _encode_pending(self, duration: int) -> None:
        image, pts = self._pending
        self._durations[pts] = duration
        self.count += 1
        self._mux(self._stream.encode(self._frame(image, pts)))

    def _frame(self, image: np.ndarray, pts: int) -> av.VideoFrame:
        extra = self._stream.height - self.height, self._stream.width - self.width
        if any(extra):
            image = np.pad(image, ((0, extra[0]), (0, extra[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")  # not copied
        frame.pts, frame.time_base = pts, self._format.time_base
        if self._palette is not None:
            self._palette.push(frame)
            return self._palette.pull()
        return frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=EXACT
        )

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            # Codecs do not tell how long a frame lasts; without it the last frame would last 0 s.
            packet.duration = self._durations.pop(packet.pts)
            with writing_errors(self.path):
                if self._audio:
                    self._audio.mux_until(float(packet.dts * packet.time_base))
                self._container.mux(packet)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """What happens first at the end of the block, if all went well."""
        if kind is not None:
            return
        if self._pending is None:
            raise UserError(f"{self.path}: there was no frame to write; check the input")
        usual = max(self._format.shortest, round(1 / (self.frame_rate * self._format.time_base)))
        rest = self._ticks(self.duration) - self._pending[1] if self.duration else usual
        self._encode_pending(max(rest, self._format.shortest) if rest > 0 else usual)
        self._mux(self._stream.encode(None))
        with writing_errors(self.path):
            if self._audio:
                end = float("inf") if self.sound_until is None else self.sound_until + self._audio.video_start
                self._audio.mux_until(end)
            self._container.close()
            if self._xmp is not None and self.path.suffix.lower() not in TAGGED:
                append_xmp(self._temporary, self._xmp)

    def _abandon(self) -> None:
        """Close the file whatever state it is in (a second time, after :meth:`_finish`, does nothing)."""
        with contextlib.suppress(OSError, av.FFmpegError):  # what ended the block says more
            self._container.close()

    def __exit__(self, kind, error, trace) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


def _palette_graph(width: int, height: int) -> av.filter.Graph:
    """A filter that gives each frame the 256 colours that suit it best."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format=av.VideoFormat("rgb24"), time_base=_FORMATS[".gif"].time_base
    )
    split, generate = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


class _Audio(contextlib.AbstractContextManager):
    """The sound of one file on its way into another: copied where the container takes it, else encoded anew."""

    def __init__(self, path: str | Path, container: av.container.OutputContainer, target: _Format):
        self.video_start = 0.0  # seconds by which the video starts after the sound
        self._path, self._container = path, container
        self._source = open_container(path)
        self._waiting = None
        self._packets: Iterator[av.Packet] = iter(())
        streams = readable(path, self._source, "audio")
        if not streams:
            return
        stream = streams[0]
        read = OneClock(self._source.demux(stream), self._source, joint_offsets(path, self._source))
        video_time = first_time(path) if self._source.streams.video else 0.0
        audio_time = float((stream.start_time or 0) * stream.time_base)
        # Time 0 is the first video frame; sound from before it is kept by letting the video start later.
        self.video_start = max(0.0, video_time - audio_time)
        self._offset = self.video_start - video_time
        if stream.codec.canonical_name in target.copied_audio:
            output = container.add_stream_from_template(stream)
            # Sound that an edit list hides stays hidden in MP4 alone; elsewhere it would be heard.
            packets = (
                packet
                for packet in self._undamaged(read)
                if packet.dts is not None and (target is _MP4 or not packet.is_discard)
            )
        else:
            rate = stream.rate if stream.rate in av.Codec(target.audio_codec, "w").audio_rates else 48000
            layout = _LAYOUTS.get(stream.layout.nb_channels, "stereo")
            output = container.add_stream(target.audio_codec, rate=rate, layout=layout)
            decoded = (frame for packet in read for frame in decode(stream.codec_context, packet))
            packets = _encoded(self._undamaged(decoded), output)
            if target.audio_codec == "aac" and (target is not _MP4 or audio_time + self._offset > 0):
                # The encoder's run-in of one frame is hidden by MP4's edit list before time 0, and heard elsewhere.
                packets = (packet for packet in packets if packet.pts * packet.time_base > audio_time - 0.005)
        self._packets = self._shifted(packets, output)

    def mux_until(self, time: float) -> None:
        """Write the sound that starts before ``time``, in seconds of the result."""
        while packet := self._waiting or next(self._packets, None):
            self._waiting = packet
            if packet.dts * packet.time_base >= time:
                return
            self._container.mux(packet)
            self._waiting = None

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def _shifted(self, packets: Iterator[av.Packet], output: av.AudioStream) -> Iterator[av.Packet]:
        """Bring the packets to the result's clock."""
        for packet in packets:
            shift = round(self._offset / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, output
            yield packet

    def _undamaged(self, read: Iterator) -> Iterator:
        """Pass on what is read of the source; damage there is one line (not what the encoder says, which is ours)."""
        try:
            yield from read
        except av.FFmpegError as error:
            raise UserError(f"{self._path}: the sound is damaged ({cause(error)}); get the file again") from None


def _encoded(frames: Iterator[av.AudioFrame], output: av.AudioStream) -> Iterator[av.Packet]:
    end = 0
    for frame in frames:
        if frame.pts is None:  # some decoders' last frame, which comes when the packets are over
            frame.pts = end
        end = frame.pts + round(frame.samples / frame.sample_rate / frame.time_base)
        yield from output.encode(frame)
    yield from output.encode(None)
