"""What an input is, is told by its content; tracks that cannot be decoded are passed over or named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import encode, images_of, renamed_codec, scene, tone_packets, write_scenes
from PIL import Image

from modules.errors import UserError
from modules.media import (
    VideoWriter,
    first_time,
    is_image,
    is_video,
    probe_video,
    read_frames,
    read_image,
    read_video,
    write_image,
)
from modules.media.file import open_container, readable

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "00112233445566778899aabbccddeeff",
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile 'other.ts'\n"),
    ],
)
def test_a_list_of_other_files_is_not_followed(tmp_path, name, content):
    encode(tmp_path / "other.ts", 10)
    (tmp_path / name).write_text(content)
    for read in (probe_video, images_of, first_time, lambda path: read_frames(path, [0])):
        with pytest.raises(UserError, match=f"{name}: is a list of other files"):
            read(tmp_path / name)
    assert images_of(tmp_path / "other.ts")


@pytest.mark.parametrize("kind", ["zzzz", "encv", "cenc"])
def test_a_track_that_cannot_be_decoded_is_one_line(tmp_path, kind):
    path = encode(tmp_path / "locked.mp4", 10, container=CENC if kind == "cenc" else None, sound=("aac", 0.0, 0.4))
    if kind != "cenc":
        renamed_codec(path, kind.encode())
    for read in (probe_video, images_of, first_time, lambda path: read_frames(path, [0])):
        with pytest.raises(UserError, match="locked.mp4: its video is encrypted") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_another_track_that_can_be_decoded_is_taken(tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(5):
            for number, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(scene(index + 30 * number), format="rgb24")
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode(None))
    first = images_of(path)
    frames = images_of(renamed_codec(path, b"zzzz"))
    assert len(frames) == len(first) == len(probe_video(path).times) == 5
    assert np.abs(first[0].astype(int) - scene(0)).mean() < 8 < np.abs(first[0].astype(int) - scene(30)).mean()
    assert np.abs(frames[0].astype(int) - scene(30)).mean() < 8


@pytest.mark.parametrize("kind", ["unknown", "cenc"])
def test_sound_that_cannot_be_decoded_is_passed_over_or_one_line(tmp_path, kind):
    path = tmp_path / ("locked.mp4" if kind == "cenc" else "locked.mkv")
    encode(path, 10, container=CENC if kind == "cenc" else None, sound=("aac", 0.0, 0.4))
    if kind == "unknown":
        path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    with open_container(path) as container, pytest.raises(UserError, match="locked.*: its audio is encrypted or of an"):
        readable(path, container, "audio")
    with pytest.raises(UserError, match="locked.*: its audio is"):
        write_scenes(tmp_path / "result.mkv", [0.0, 0.04], audio_from=path)
    assert not (tmp_path / "result.mkv").exists()
    two = tmp_path / "two.mkv"
    with av.open(str(two), "w") as file:
        for tone in [file.add_stream(codec, rate=16000, layout="mono") for codec in ("aac", "mp3")]:
            file.mux(tone_packets(tone, 0.0, 0.4))
    two.write_bytes(two.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    with open_container(two) as container:
        assert [stream.codec.canonical_name for stream in readable(two, container, "audio")] == ["mp3"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".bmp", ".ico", ".tga", ".qoi"])
@pytest.mark.filterwarnings("ignore")  # Pillow tells of damage in TIFF files so as well
def test_no_damage_makes_a_picture_raise_anything_else(tmp_path, suffix):
    path, random = tmp_path / f"damaged{suffix}", np.random.default_rng(0)
    Image.fromarray(scene(0)[:24, :32]).save(path)
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 200), 4):
            data[place] = random.integers(256)
        path.write_bytes(bytes(data))
        with contextlib.suppress(UserError):
            read_image(path)


DURATIONS = [40, 120, 40, 200]  # milliseconds


def animation(path: Path) -> Path:
    frames = [Image.fromarray(scene(10 * index)) for index in range(len(DURATIONS))]
    frames[0].save(
        path, path.suffix[1:], save_all=True, append_images=frames[1:], duration=DURATIONS, lossless=True, quality=90
    )
    return path


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".gif"])
def test_pictures_that_move_are_videos_with_their_times(tmp_path, suffix):
    path = animation(tmp_path / f"moving{suffix}")
    bare = path.rename(tmp_path / "moving") if suffix != ".gif" else path
    assert is_video(bare) and not is_image(bare)
    info, frames = probe_video(bare), list(read_video(bare))
    assert (info.width, info.height, info.has_audio) == (128, 96, False) and first_time(bare) == 0
    np.testing.assert_allclose(info.times, [0, 0.04, 0.16, 0.2], atol=1e-6)
    np.testing.assert_allclose([frame.time for frame in frames], info.times, atol=1e-6)
    assert info.duration == pytest.approx(0.4, abs=1e-6)
    for index, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - scene(10 * index)).mean() < 8  # a GIF has 256 colours
    chosen = read_frames(bare, [2, 0, 2])
    for image, index in zip(chosen, (2, 0, 2), strict=True):
        np.testing.assert_array_equal(image, frames[index].image)
    with VideoWriter(tmp_path / "result.mp4", 128, 96, info.frame_rate, audio_from=bare) as writer:
        for frame in frames:
            writer.write(frame.image, frame.time)
    assert len(images_of(tmp_path / "result.mp4")) == 4


def test_what_a_file_holds_says_what_it_is_and_the_name_only_of_what_is_not_there(tmp_path):
    write_image(tmp_path / "photo.png", scene(0))
    for name in ("photo", "photo.mp4", "photo.txt"):
        still = tmp_path / name
        still.write_bytes((tmp_path / "photo.png").read_bytes())
        assert is_image(still) and not is_video(still)
        np.testing.assert_array_equal(read_image(still), scene(0))
    video = encode(tmp_path / "video.mp4", 5)
    for name in ("video", "video.png", "video.txt"):
        (tmp_path / name).write_bytes(video.read_bytes())
        assert is_video(tmp_path / name) and not is_image(tmp_path / name)
        assert len(images_of(tmp_path / name)) == 5
    Image.fromarray(scene(0)).save(tmp_path / "one.gif")
    assert is_image(tmp_path / "one.gif") and not is_video(tmp_path / "one.gif")
    for name in ("text.png", "text.mp4", "text.txt"):
        (tmp_path / name).write_text("neither of them, but damaged perhaps\n" * 9)
    assert is_image(tmp_path / "text.png") and is_video(tmp_path / "text.mp4")
    assert not is_image(tmp_path / "text.txt") and not is_video(tmp_path / "text.txt")
    assert not is_image(tmp_path) and not is_video(tmp_path)


def test_a_heic_picture_is_no_video_and_one_line(tmp_path):
    path = tmp_path / "IMG_0001.HEIC"
    Image.fromarray(scene(0)).save(tmp_path / "picture.avif")
    data = (tmp_path / "picture.avif").read_bytes()
    path.write_bytes(data.replace(b"avif", b"heic"))  # the container of HEIC, as Pillow and FFmpeg see it
    assert is_image(path) and not is_video(path)
    with pytest.raises(UserError, match="IMG_0001.HEIC: is a HEIC picture, which cannot be decoded here; convert it"):
        read_image(path)
    for still in (path, tmp_path / "picture.avif"):
        for read in (probe_video, images_of, first_time):
            with pytest.raises(UserError, match="single HEIC or AVIF picture, not a video"):
                read(still)
