"""Pictures, videos and sound for tests: real files, made by real encoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage.data import astronaut

from modules.errors import UserError
from modules.media import (
    VideoWriter,
    read_video,
)

PHOTO = np.asarray(astronaut())  # uint8 [512, 512, 3]


def scene(index: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A window that wanders over a photograph: every frame differs from every other."""
    return np.ascontiguousarray(PHOTO[40 + 2 * index :, 100 + 3 * index :][:height, :width])


def write_scenes(path: Path, times: list[float], height: int = 96, width: int = 128, **options) -> Path:
    with VideoWriter(path, width, height, 25, **options) as writer:
        for index, time in enumerate(times):
            writer.write(scene(index % 60, height, width), time)
    return path


def encode(
    path: Path,
    count: int = 60,
    codec: str = "libx264",
    rotation: int = 0,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    start: float = 0.0,
    sound: tuple[str, float, float] | None = None,
    layout: str = "mono",
) -> Path:
    """A video straight from PyAV, at 25 frames a second; ``sound`` is (codec, start, length)."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 12800)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        packets = []
        if sound:
            rate = 48000 if sound[0] == "ac3" else 16000  # the lowest rates it has
            tone = file.add_stream(sound[0], rate=rate, layout=layout)
            tone.bit_rate = 192_000
            packets += tone_packets(tone, *sound[1:])
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(scene(index % 60), format="rgb24")
            frame.pts, frame.time_base = round(start * 12800) + index * 512, Fraction(1, 12800)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    return path


def tone_packets(stream: av.AudioStream, start: float, length: float) -> list[av.Packet]:
    samples = np.sin(np.arange(round(16000 * length)) * 2 * np.pi * 440 / 16000) * 8000
    packets = []
    for begin in range(0, len(samples), 1024):
        block = samples[None, begin : begin + 1024].astype(np.int16).repeat(stream.layout.nb_channels, axis=1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=stream.layout.name)
        frame.rate, frame.pts, frame.time_base = 16000, round(start * 16000) + begin, Fraction(1, 16000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def sound_of(path: Path) -> tuple[str, float, float]:
    """(codec, start, length): the start is relative to the first video frame; all in seconds."""
    with av.open(str(path)) as file:
        video = next(file.decode(video=0)).time
    with av.open(str(path)) as file:
        frames = [(frame.time, frame.samples / frame.rate) for frame in file.decode(audio=0)]
        name = file.streams.audio[0].codec.canonical_name
    return name, frames[0][0] - video, sum(length for _, length in frames)


def images_of(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in read_video(path)]


def only_error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        for _ in read_video(path):
            pass
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def renamed_codec(path: Path, code: bytes) -> Path:
    """The first track of a MP4 file named ``code``, in place of H.264."""
    data = path.read_bytes()
    place = data.index(b"avc1", data.index(b"stsd"))
    path.write_bytes(data[:place] + code + data[place + 4 :])
    return path
