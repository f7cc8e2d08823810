"""Pictures and videos go in and out unharmed: sizes, colours, times, sound, rotation; and damage is named."""

from __future__ import annotations

import contextlib
import gc
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from modules.errors import UserError
from modules.media import (
    VideoWriter,
    as_image,
    first_time,
    fit,
    is_image,
    is_video,
    probe_video,
    read_frames,
    read_image,
    read_video,
    resize,
    write_image,
)
from modules.media.file import open_container, readable

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


# ---- reading videos


def test_names_tell_videos_from_pictures():
    assert is_video("a/b.MP4") and is_video("x.gif") and is_video("x.mkv")
    assert is_image("a/b.JPG") and is_image(Path("x.png"))
    assert is_image("x.jfif") and is_image("x.JPE") and is_image("x.avif")
    assert not is_image("x.mpg") and not is_image("x.h5") and not is_image("x.txt")
    assert not is_video("x.png") and not is_image("x.gif") and not is_video("mp4")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"x264-params": "keyint=12:bframes=3:b-pyramid=normal"}),
        ("one_group.mp4", "libx264", {"g": "600"}),
        ("open_group.mkv", "libx264", {"x264-params": "open-gop=1:keyint=20:bframes=3"}),
        ("short_groups.mp4", "libx264", {"x264-params": "keyint=2:bframes=1"}),
        ("reordered.avi", "libx264", {}),
        ("plain.avi", "mpeg4", {}),
    ],
)
def test_random_access_gives_the_frames_of_the_stream(tmp_path, name, codec, options):
    path = encode(tmp_path / name, codec=codec, options=options)
    info, frames = probe_video(path), list(read_video(path))
    assert len(frames) == len(info.times) == 60 and (info.width, info.height) == (128, 96)
    assert info.frame_rate == 25 and not info.has_audio
    assert info.duration == pytest.approx(2.4, abs=1e-3)  # Matroska and AVI count in steps of up to 1 ms
    np.testing.assert_allclose([frame.time for frame in frames], info.times, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(60) / 25, atol=1e-3)
    for index in (0, 1, 11, 12, 13, 19, 20, 37, 58, 59):
        np.testing.assert_array_equal(read_frames(path, [index], info)[0], frames[index].image)
    wanted = [59, 3, 3, 21, 0, 40]  # any order, repeated
    for index, image in zip(wanted, read_frames(path, wanted), strict=True):
        np.testing.assert_array_equal(image, frames[index].image)


@pytest.mark.parametrize("name", ["a.mpg", "a.h264"])
def test_where_frames_lack_times_all_are_evenly_spaced(tmp_path, name):
    """An MPEG program stream has a time every few frames only: to take it where there is one would go back in time."""
    path = encode(tmp_path / name, options={"g": "60", "bf": "2"})
    frames, info = list(read_video(path)), probe_video(path)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(60) / 25, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(60) / 25, atol=1e-9)
    np.testing.assert_array_equal(read_frames(path, [31], info)[0], frames[31].image)
    write_scenes(tmp_path / "a.mp4", [frame.time for frame in frames], audio_from=path)


def cut_into(source: Path, target: Path, skip: int) -> Path:
    """The packets of ``source`` from number ``skip`` on, as ``ffmpeg -c copy`` cuts."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in itertools.islice(old.demux(video=0), skip, None):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("groups", ["closed", "open"])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".avi", ".mpg"])
@pytest.mark.parametrize("skip", [10, 31])
def test_what_is_cut_within_a_group_begins_at_its_first_whole_one(tmp_path, groups, suffix, skip):
    x264 = f"keyint=30:min-keyint=30:scenecut=0:bframes=3:open-gop={int(groups == 'open')}"
    whole = images_of(encode(tmp_path / "whole.ts", 90, options={"x264-params": x264}))
    path = cut_into(tmp_path / "whole.ts", tmp_path / f"cut{suffix}", skip)
    frames, info = list(read_video(path)), probe_video(path)
    assert len(frames) == len(info.times) <= 90 - skip
    np.testing.assert_allclose([frame.time for frame in frames], info.times, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(len(frames)) / 25, atol=1e-3)  # Matroska counts in ms
    for index in (0, 1, 5, len(frames) - 1):
        image = read_frames(path, [index], info)[0]
        np.testing.assert_array_equal(image, frames[index].image)
        np.testing.assert_array_equal(image, whole[len(whole) - len(frames) + index])


def test_a_frame_that_the_decoder_does_not_give_is_named(tmp_path):
    path = encode(tmp_path / "a.mp4", count=20)
    longer = probe_video(encode(tmp_path / "b.mp4", count=30))
    with pytest.raises(UserError, match=r"a\.mp4: frame 25, at 1\.00 s, cannot be decoded"):
        read_frames(path, [3, 25], longer)


def test_an_index_that_does_not_exist_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", count=5)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            read_frames(path, [index])


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_come_as_a_player_shows_them(tmp_path, rotation):
    upright = images_of(encode(tmp_path / "upright.mp4", count=8))
    path = encode(tmp_path / "rotated.mp4", count=8, rotation=rotation)
    info, frames = probe_video(path), images_of(path)
    assert (info.height, info.width) == ((128, 96) if abs(rotation) == 90 else (96, 128))
    # The display matrix turns counter-clockwise, as np.rot90 does.
    for image, reference in zip(frames, upright, strict=True):
        np.testing.assert_array_equal(image, np.rot90(reference, rotation // 90))
    np.testing.assert_array_equal(read_frames(path, [5])[0], frames[5])


@pytest.mark.parametrize(("height", "width", "matrix"), [(720, 1280, "ITU709"), (96, 128, "ITU601")])
def test_the_colours_of_videos_without_a_tag_are_those_players_show(tmp_path, height, width, matrix):
    picture = resize(PHOTO, height, width)
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=getattr(av.video.reformatter.Colorspace, matrix))
        frame.colorspace = 2  # unspecified
        file.mux(stream.encode(frame) + stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert next(file.decode(video=0)).colorspace == 2
    difference = images_of(tmp_path / "a.mp4")[0].astype(float) - picture
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7  # the other matrix shifts the means by several levels


@pytest.mark.parametrize(("rotation", "shape"), [(0, (96, 171, 3)), (90, (171, 96, 3))])
def test_pixels_that_are_not_square_are_made_square(tmp_path, rotation, shape):
    path = encode(tmp_path / "a.mp4", count=4, aspect=Fraction(4, 3), rotation=rotation)
    info = probe_video(path)
    assert (info.height, info.width, 3) == shape  # 128 columns of 4/3 are 170.7
    assert images_of(path)[0].shape == read_frames(path, [2], info)[0].shape == shape


def test_a_video_that_begins_late_begins_at_zero(tmp_path):
    path = encode(tmp_path / "late.mkv", count=10, start=0.6)
    assert probe_video(path).times[0] == 0
    assert [frame.time for frame in read_video(path)] == pytest.approx(list(np.arange(10) / 25), abs=1e-3)


# ---- damage


def only_error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        for _ in read_video(path):
            pass
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_what_is_no_video_is_named(tmp_path):
    assert "no such file" in only_error(tmp_path / "missing.mp4")
    assert "folder" in only_error(tmp_path)
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("this is no video\n" * 100)
    empty.touch()
    assert "not a video" in only_error(text)
    assert "not a video" in only_error(empty)
    with pytest.raises(UserError, match="no such file"):
        probe_video(tmp_path / "missing.mp4")


def test_a_video_without_pictures_is_named(tmp_path):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        file.mux(tone_packets(stream, 0, 0.5))
    assert "no video stream" in only_error(sound)
    no_frame = tmp_path / "no_frame.avi"
    with av.open(str(no_frame), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        file.start_encoding()
    assert str(no_frame) in only_error(no_frame)
    with pytest.raises(UserError):
        probe_video(no_frame)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_bytes_smashed_in_the_middle_are_an_error_that_names_the_time(tmp_path, codec):
    path = encode(tmp_path / "a.mp4", codec=codec, options={"g": "12"})
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.rindex(b"moov")) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    good = []
    with pytest.raises(UserError, match=r"damaged after \d\.\d\d s"):
        good.extend(read_video(path))  # extend keeps what came before the error
    assert "damaged" in only_error(path)
    assert len(probe_video(path).times) == 60  # the index is whole
    np.testing.assert_array_equal(read_frames(path, [0])[0], next(read_video(path)).image)  # what is whole can be had
    with pytest.raises(UserError, match="damaged"):
        read_frames(path, range(60))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif"])
def test_a_video_that_is_cut_off_is_an_error(tmp_path, suffix):
    path = write_scenes(tmp_path / f"a{suffix}", [index / 25 for index in range(50)])
    whole = path.read_bytes()
    for share in (0.5, 0.7):
        path.write_bytes(whole[: int(len(whole) * share)])
        only_error(path)
        with pytest.raises(UserError, match="cut off|complete"):
            probe_video(path)


def test_a_trimmed_video_is_not_taken_for_one_that_is_cut_off(tmp_path):
    """Phones trim by an edit list: the file still holds, and counts, all frames."""
    path = encode(tmp_path / "a.mp4", options={"g": "6", "bf": "0"})
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 12  # after the name, version and number of edits: the duration in ms
    assert int.from_bytes(data[place : place + 4], "big") == 2400
    data[place : place + 4] = (1000).to_bytes(4, "big")
    path.write_bytes(data)
    times = [frame.time for frame in read_video(path)]
    assert len(times) in (25, 26)  # the frame that begins where the edit ends may count
    assert probe_video(path).times == pytest.approx(times)


def test_a_mp4_without_its_index_is_an_error(tmp_path):
    path = encode(tmp_path / "a.mp4")  # the index stands at the end
    path.write_bytes(path.read_bytes()[:-4000])
    assert "complete" in only_error(path)


# ---- writing videos


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".mp4", 1e-4), (".mov", 1e-4), (".mkv", 1e-3), (".webm", 1e-3), (".gif", 0.0101)],  # the containers' time steps
)
def test_variable_frame_times_are_read_back(tmp_path, suffix, tolerance):
    steps = np.random.default_rng(1).uniform(0.02, 0.11, 40)
    times = [0.0, *np.cumsum(steps)]
    path = write_scenes(tmp_path / "new" / f"a{suffix}", times, duration=times[-1] + 0.2)
    info = probe_video(path)
    np.testing.assert_allclose(info.times, times, atol=tolerance)
    np.testing.assert_allclose([frame.time for frame in read_video(path)], info.times, atol=1e-9)
    assert (info.width, info.height) == (128, 96)
    if suffix in (".mp4", ".mov", ".gif"):  # Matroska does not store how long the last frame lasts
        assert info.duration == pytest.approx(times[-1] + 0.2, abs=tolerance)
    images = images_of(path)
    np.testing.assert_array_equal(read_frames(path, [33], info)[0], images[33])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("suffix", "error"), [(".mp4", 5.0), (".mkv", 5.0), (".webm", 5.0), (".gif", 5.0)])
def test_colours_survive(tmp_path, suffix, error):
    picture = resize(PHOTO, 128, 128)
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 128, 128, 25) as writer:
        for index in range(3):
            writer.write(picture, index / 25)
    difference = images_of(path)[1].astype(float) - picture
    # Half-resolution chroma or 256 colours cost some levels on fine detail; a wrong matrix or range would shift means.
    assert np.abs(difference).mean() < error
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7


def test_odd_sizes_are_padded_by_the_edge(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [0, 0.04, 0.08], height=95, width=127)
    image = images_of(path)[0]
    assert image.shape == (96, 128, 3)
    assert np.abs(image[:95, :127].astype(float) - scene(0, 95, 127)).mean() < 5  # as above
    assert np.abs(image[95].astype(float) - image[94]).mean() < 5
    gif = write_scenes(tmp_path / "a.gif", [0, 0.04], height=95, width=127)
    assert images_of(gif)[0].shape == (95, 127, 3)


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        ("aac.mp4", ".mp4", "aac"),  # copied
        ("aac.mp4", ".webm", "opus"),  # encoded
        ("pcm_s16le.mov", ".mp4", "aac"),  # encoded
        ("aac.mp4", ".mkv", "aac"),
        ("aac.mp4", ".gif", None),
    ],
)
def test_sound_is_kept_whole_and_in_step(tmp_path, source, target, codec):
    sound_codec = source.split(".")[0]
    for sound_start, video_start in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)):
        driver = encode(tmp_path / source, count=20, start=video_start, sound=(sound_codec, sound_start, 1.5))
        path = tmp_path / f"result{target}"
        with VideoWriter(path, 128, 96, 25, audio_from=driver) as writer:
            for frame in read_video(driver):
                writer.write(frame.image, frame.time)
        info = probe_video(path)
        assert info.has_audio == (codec is not None)
        np.testing.assert_allclose(info.times, np.arange(20) / 25, atol=1e-3)
        if codec is None:
            continue
        name, start, length = sound_of(path)
        _, driver_start, driver_length = sound_of(driver)
        frame = 1024 / 16000  # an AAC frame; encoders add up to one at the start and fill up the last
        assert name == codec
        assert length == pytest.approx(driver_length, abs=frame + 1e-3)
        assert start == pytest.approx(driver_start, abs=frame + 1e-3)


@pytest.mark.parametrize(
    ("source", "codec", "layout", "read_as", "target", "expected"),
    [
        ("a.avi", "pcm_s16le", "mono", "1 channels", ".mp4", "mono"),
        ("a.avi", "pcm_s16le", "stereo", "2 channels", ".mp4", "stereo"),
        ("a.wmv", "wmav2", "stereo", "2 channels", ".mp4", "stereo"),
        ("a.mkv", "ac3", "5.1(side)", "5.1(side)", ".webm", "5.1"),
        ("a.mkv", "pcm_s16le", "quad", "4 channels", ".mp4", "stereo"),
    ],
)
def test_sound_whose_channels_are_not_named_as_the_encoder_names_them(
    tmp_path, source, codec, layout, read_as, target, expected
):
    driver = encode(tmp_path / source, 30, "mpeg4", sound=(codec, 0.0, 1.2), layout=layout)
    with av.open(str(driver)) as file:
        assert file.streams.audio[0].layout.name == read_as
    path = write_scenes(tmp_path / f"result{target}", [index / 25 for index in range(30)], audio_from=driver)
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    assert {frame.layout.name for frame in frames} == {expected}
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
    assert sum(frame.samples / frame.rate for frame in frames) == pytest.approx(1.2, abs=0.1)  # filled up to packets
    assert np.abs(np.fft.rfft(sound)).argmax() * frames[0].rate / len(sound) == pytest.approx(440, abs=2)


def test_a_driver_without_sound_gives_a_video_without_sound(tmp_path):
    driver = encode(tmp_path / "driver.mp4", count=5)
    path = write_scenes(tmp_path / "a.mp4", [0, 0.04], audio_from=driver)
    assert not probe_video(path).has_audio


def test_sound_and_pictures_are_interleaved(tmp_path):
    driver = encode(tmp_path / "driver.mp4", count=150, sound=("aac", 0.0, 6.0))
    path = write_scenes(tmp_path / "a.mp4", [index / 25 for index in range(150)], audio_from=driver)
    with av.open(str(path)) as file:
        packets = [
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in file.demux()
            if packet.dts is not None
        ]
    behind, latest = 0.0, {"audio": 0.0, "video": 0.0}
    for _, kind, time in sorted(packets):
        latest[kind] = time
        behind = max(behind, abs(latest["audio"] - latest["video"]))
    assert behind < 1.2  # MP4 writes chunks of up to a second


def test_an_exception_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 128, 96, 25) as writer:
        for index in range(60):
            writer.write(scene(index), index / 25)
        raise KeyError("elsewhere")
    with pytest.raises(UserError, match="no frame"), VideoWriter(tmp_path / "b.mp4", 128, 96, 25):
        pass
    with pytest.raises(UserError, match="go back"), VideoWriter(tmp_path / "c.mp4", 128, 96, 25) as writer:
        writer.write(scene(0), 0.5)
        writer.write(scene(1), 0.4)
    with pytest.raises(ValueError, match="expected"), VideoWriter(tmp_path / "d.mp4", 128, 96, 25) as writer:
        writer.write(scene(0, 90), 0)
    with pytest.raises(UserError, match="missing.mp4: no such file"):
        VideoWriter(tmp_path / "e.mp4", 128, 96, 25, audio_from=tmp_path / "missing.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with contextlib.suppress(KeyError), VideoWriter(path, 128, 96, 25) as writer:
        writer.write(scene(0), 0)
        raise KeyError
    assert path.read_text() == "old"
    write_scenes(path, [0, 0.04])
    assert len(images_of(path)) == 2


def test_frames_finer_than_the_time_step_of_a_gif_are_merged(tmp_path):
    write_scenes(tmp_path / "a.gif", [index / 240 for index in range(24)])  # 0.1 s at 240 a second
    times = probe_video(tmp_path / "a.gif").times
    assert len(times) < 24 and times == pytest.approx([index / 50 for index in range(len(times))], abs=1e-6)
    assert times[-1] == pytest.approx(0.1, abs=0.021)  # one frame of 20 ms


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for path, match in (
        (tmp_path / "file" / "a.mp4", "cannot be written"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "a.xyz", "use one of"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            VideoWriter(path, 128, 96, 25)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        with pytest.raises(UserError):
            write_image(path.with_suffix(".png") if path.suffix == ".mp4" and path.parent.is_file() else path, PHOTO)


@pytest.mark.parametrize("frames", [3, 60])  # the disk is full when the file is closed, and before
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, full_disk, suffix, frames):
    path = tmp_path / f"a{suffix}"
    random = np.random.default_rng(0)
    with (
        pytest.raises(UserError, match=r"cannot be written \(File too large\); free space") as caught,
        VideoWriter(path, 128, 128, 25) as writer,
    ):
        for index in range(frames):
            writer.write(random.integers(0, 256, (128, 128, 3), np.uint8), index / 25)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="File too large"):
        write_image(tmp_path / "a.png", PHOTO)
    assert list(tmp_path.iterdir()) == []


def test_reading_holds_no_frames(tmp_path):
    """Memory does not grow with the length, not even until the garbage collector comes by."""
    stream = read_video(encode(tmp_path / "a.mp4", count=200))
    counts = []
    gc.collect()
    gc.disable()
    try:
        for _ in itertools.islice(stream, 0, None, 50):
            counts.append(sum(type(item) is av.VideoFrame for item in gc.get_objects()))
    finally:
        gc.enable()
    assert len(counts) == 4 and min(counts) > 0  # frames are seen by the collector, or this would prove nothing
    assert max(counts) <= 16  # a decoder may hand over some at once, one from each of its threads


# ---- pictures


def test_png_is_exact_and_jpg_is_close(tmp_path):
    write_image(tmp_path / "new" / "a.png", PHOTO)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), PHOTO)
    write_image(tmp_path / "a.jpg", PHOTO)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(float) - PHOTO).mean() < 2  # quality 95
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jpg", "new"]
    with pytest.raises(UserError, match=r"use \.png or \.jpg"):
        write_image(tmp_path / "a.bmp2", PHOTO)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(0)).save(tmp_path / "a.png", exif=exif)
    upright = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright(scene(0)))


def test_transparency_lies_over_white(tmp_path):
    rgba = np.dstack([scene(0), np.full((96, 128), 255, np.uint8)])
    rgba[:48, :, 3] = 0
    rgba[48:60, :, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png")
    assert (image[:48] == 255).all()
    np.testing.assert_array_equal(image[60:], scene(0)[60:])
    blend = scene(0)[48:60] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(image[48:60], blend, atol=1)  # rounding
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png")[:48] == 255).all()
    palette = Image.fromarray(scene(0)).quantize(16)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    assert (read_image(tmp_path / "p.png")[0, 0] == 255).all()


def test_grey_sixteen_bit_and_cmyk_pictures_become_rgb(tmp_path):
    grey = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    expected = np.repeat(np.round(grey / 257).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "grey16.png"), expected)
    Image.fromarray(grey).save(tmp_path / "grey16.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "grey16.tif"), expected)
    Image.fromarray(scene(0)).convert("L").save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg").shape == (96, 128, 3)
    Image.fromarray(scene(0)).convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}
    Image.fromarray(scene(0)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(float) - scene(0)).mean() < 4  # JPEG


def test_sixteen_bit_colour_keeps_its_brightness(tmp_path):
    rgb = scene(0).astype(np.uint16) * 257
    with av.open(str(tmp_path / "rgb16.png"), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "rgb48be"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb48be")))
        file.mux(stream.encode(None))
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.png"), scene(0))


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    write_image(tmp_path / "cut.png", PHOTO)
    write_image(tmp_path / "cut.jpg", PHOTO)
    for name in ("cut.png", "cut.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20000])
    for name, match in (
        ("missing.png", "no such file"),
        ("text.png", "not a picture"),
        ("", "folder"),
        ("cut.png", "complete"),
        ("cut.jpg", "complete"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_resize_and_fit_are_antialiased_unbiased_and_centred():
    assert resize(PHOTO, 512, 512) is PHOTO and fit(PHOTO, 512, 512) is PHOTO
    small = resize(PHOTO, 64, 80)
    assert small.shape == (64, 80, 3)
    assert np.abs(small.mean(axis=(0, 1)) - PHOTO.mean(axis=(0, 1))).max() < 0.5  # rounding and clipped overshoot
    checks = np.tile(np.indices((256, 256)).sum(0)[..., None] % 2 * 255, 3).astype(np.uint8)
    inner = resize(checks, 32, 32)[2:-2, 2:-2]
    assert inner.min() >= 124 and inner.max() <= 131  # one-pixel checks become grey, not a moire
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert fit(wide, 50, 50)[:, 2:-2].min() >= 199  # the middle third, but for rounding and the filter's reach
    assert fit(PHOTO[:301, :200], 33, 57).shape == (33, 57, 3)


@pytest.mark.parametrize("side", [112, 176, 224])
@pytest.mark.parametrize("shape", [(225, 225), (4032, 3024), (3024, 4032)])
def test_a_box_that_rounding_puts_outside_the_picture_is_its_edge(tmp_path, side, shape):
    path = tmp_path / "photo.jpg"
    Image.fromarray(PHOTO).resize(shape[::-1]).save(path)
    picture = read_image(path)
    least = min(shape)
    top, left = (shape[0] - least) // 2, (shape[1] - least) // 2
    middle = np.ascontiguousarray(picture[top : top + least, left : left + least])
    error = np.abs(fit(picture, side, side).astype(int) - resize(middle, side, side))
    assert error.mean() < 0.5 and error.max() < 12  # pixels beside the box have their part in its edge


@pytest.mark.parametrize("mode", ["turned", "grey16", "alpha", "palette"])
def test_a_picture_given_to_python_is_what_its_file_is(tmp_path, mode):
    path = tmp_path / "picture.png"
    if mode == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(scene(0)).save(path, exif=exif)
    elif mode == "grey16":
        Image.fromarray(scene(0)[..., 0].astype(np.uint16) * 257).save(path)
    elif mode == "alpha":
        alpha = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None].repeat(96, axis=0)
        Image.fromarray(np.concatenate([scene(0), alpha], axis=2)).save(path)
    else:
        palette = Image.fromarray(scene(0)).quantize(16)
        palette.save(path, transparency=3)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(as_image(picture), read_image(path))
        if mode != "palette" and mode != "turned":
            np.testing.assert_array_equal(as_image(np.array(picture)), read_image(path))
    np.testing.assert_array_equal(as_image(path), read_image(path))
    np.testing.assert_array_equal(as_image(str(path)), read_image(path))


def test_arrays_and_tensors_are_pictures_of_their_values():
    rgb = scene(0)
    grey = rgb[..., 0]
    wide = rgb.astype(np.uint16) * 257
    tensor = torch.from_numpy(rgb).permute(2, 0, 1) / 255
    for given in (rgb, wide, rgb / 255, (rgb / 255).astype(np.float32), rgb[:, ::-1][:, ::-1], tensor):
        np.testing.assert_array_equal(as_image(given), rgb)
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    for given in (grey, grey[..., None], grey / 255, grey.astype(np.uint16) * 257):
        np.testing.assert_array_equal(as_image(given), as_rgb)
    np.testing.assert_array_equal(as_image(grey > 99)[..., 0], (grey > 99) * 255)
    unseen = np.zeros((96, 128, 1))
    assert (as_image(np.concatenate([rgb / 255, unseen], axis=2)) == 255).all()
    assert as_image(tensor.requires_grad_().bfloat16()).shape == rgb.shape


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([scene(0)], "a list; give one path"),
        (None, "a NoneType"),
        (np.zeros((2, 8, 8, 3), np.uint8), "uint8 .2, 8, 8, 3."),
        (np.zeros((8, 8, 2), np.uint8), "uint8 .8, 8, 2."),
        (np.zeros((0, 8, 3), np.uint8), "uint8 .0, 8, 3."),
        (scene(0).astype(np.float32), "from .* to .*; floats go from 0 to 1"),
        (np.full((8, 8), np.nan), "from nan"),
        (scene(0).astype(np.int64), "type int64"),
        (torch.zeros(8, 8, 3), "torch.float32 .8, 8, 3."),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        ("missing.png", "missing.png: no such file"),
    ],
)
def test_what_is_no_picture_in_python_is_one_line(given, match):
    with pytest.raises(UserError, match=match) as caught:
        as_image(given, "identity_image")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 160
    assert str(caught.value).startswith(("identity_image: ", "missing.png: "))


def test_a_picture_cut_off_is_one_line_in_python_too(tmp_path):
    write_image(tmp_path / "cut.jpg", PHOTO)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:20000])
    with Image.open(tmp_path / "cut.jpg") as picture, pytest.raises(UserError, match="source: the picture cannot"):
        as_image(picture, "source")


# ---- tracks that cannot be decoded

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "00112233445566778899aabbccddeeff",
}


def renamed_codec(path: Path, code: bytes) -> Path:
    """The first track of a MP4 file named ``code``, in place of H.264."""
    data = path.read_bytes()
    place = data.index(b"avc1", data.index(b"stsd"))
    path.write_bytes(data[:place] + code + data[place + 4 :])
    return path


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


# ---- what an input is


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
